"""Calls functions as soon as they are defined: 7 calls of first(), one of Kind.method() and in it
one of a closure. Prints `ready`, waits for a line, and imports early_module, which calls load() as
it is imported. Then load() once more, and `done`. Each load(N) is N + 1 calls, one in the other.
"""
import sys


def first(n):
    return n


class Kind:
    def method(self):
        def closure():
            return 1

        return closure()


for i in range(7):
    first(i)
Kind().method()
print("ready", flush=True)
sys.stdin.readline()

import early_module  # noqa: E402

early_module.load(3)
print("done", flush=True)
