"""A known deep stack in two threads: each prints its own chain, then waits for the end of stdin.

Run as `python3 -c 'exec(compile(…, "deep.py", "exec"))' DEPTH`; the frames of this file are the
ground truth of the walker's tests.
"""

import _thread  # not threading: its frames would carry the path of this interpreter
import json
import os
import sys


def chain(frame):
    """Leaf first: what sys._getframe says, which is what tracebacks show."""
    found = []
    while frame is not None:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        found.append([name, code.co_filename, frame.f_lineno])
        frame = frame.f_back
    return found


def tid():
    try:
        return int(os.readlink("/proc/thread-self").rsplit("/", 1)[1])
    except OSError:  # another root, without /proc
        return _thread.get_native_id()  # 3.8 and later


def say(frame):
    truth = {
        "thread_id": _thread.get_ident(),
        "tid": tid(),
        "chain": chain(frame),
    }
    os.write(1, (json.dumps(truth) + "\n").encode())


def wait():
    # One line: the chain that was said is the chain that waits.
    say(sys._getframe()); os.read(0, 1)


def größe(value):
    if value == 2:
        wait()
    return value


def 数える(value):
    return größe(value)


class Box:
    def __init__(self, go):
        if go:
            self.enter()

    def enter(self):
        def inner(values):
            return sorted(
                values,
                key=数える,
            )

        for value in self.numbers(inner):
            return value

    @staticmethod
    def numbers(inner):
        yield [inner(values) for values in ([3, 2, 1],)]


def build(go):
    return Box(
        go
    )


def recurse(depth):
    if depth == 0:
        return build(True)
    return recurse(
        depth - 1
    )


def thread(depth):
    if depth:
        (lambda below: thread(below))(depth - 1)
    else:
        wait()


# The call of the class is specialised once it has been made often enough.
for _ in range(3000):
    build(False)
_thread.start_new_thread(thread, (5,))
recurse(int(sys.argv[1]))
