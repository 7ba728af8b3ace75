"""Times calls of a marked function, less those of a bare one.

Usage: python marks.py CALLS [watched]. The function is decorated, where `profile` is a builtin: under `memprof-ebpf run`
and under `mprof run --python`; or it is `watched`, by `memprof-ebpf run --func __main__.watched`.
Prints one line in the form of faults.py, of five rounds: {"call": [ns, …]}, in CPU time of the thread.
"""
import sys
import time

CALLS = int(sys.argv[1])


def bare():
    pass


def watched():
    pass


def of(function):
    numbers = range(CALLS)
    begin = time.thread_time_ns()
    for _ in numbers:
        function()
    return (time.thread_time_ns() - begin) / CALLS


if sys.argv[2:] == ["watched"]:
    marked = watched
    # It is looked for ten times a second.
    time.sleep(1)
else:

    @profile
    def decorated():
        pass

    marked = decorated

of(marked)
print('{"call": %s}' % [max(of(marked) - of(bare), 0.0) for _ in range(5)])
