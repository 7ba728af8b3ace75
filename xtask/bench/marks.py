"""Times calls of a decorated function, less those of a bare one.

Usage: python marks.py CALLS, where `profile` is a builtin: under `memprof-ebpf run` and under `mprof run --python`.
Prints one line in the form of faults.py, of five rounds: {"call": [ns, …]}, in CPU time of the thread.
"""
import sys
import time

CALLS = int(sys.argv[1])


def bare():
    pass


@profile
def decorated():
    pass


def of(function):
    numbers = range(CALLS)
    begin = time.thread_time_ns()
    for _ in numbers:
        function()
    return (time.thread_time_ns() - begin) / CALLS


of(decorated)
print('{"call": %s}' % [max(of(decorated) - of(bare), 0.0) for _ in range(5)])
