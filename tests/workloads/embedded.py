"""What a program that embeds the interpreter runs: it prints `ready`, waits for a line, and touches
pages, in its main thread and in one of Python's. called_by_c() and say() are left to the program.
"""
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(path))  # noqa: F821, the program's own

from chains import say, touch


def work():
    touch()
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()


def in_thread():
    touch()


def called_by_c():
    touch()


# Not by sys.stdin, which would take more than a line.
os.write(1, b"ready\n")
while os.read(0, 1) != b"\n":
    pass
work()
