"""Calls functions on command, one word and a number a line, and answers each with a line. Runs on
3.6 and later.

plain N       N calls of plain()
recursion N   rec() N deep, and plain() within the innermost
raise N       N calls of boom(), which raises; then one of plain() while the exceptions are held
threads N     N calls of plain() in each of 4 threads
fork N        N calls of plain() in each of 3 children, one of which raises out of boom() at last
touch N       references to the code object of plain() that are no calls, from inside and outside
generate N    N generators of gen(), half of them run to their end
time 1        timed(), answered with the program's own clock
define N      defines late()
late N        N calls of late()
grow N        N MiB made resident in grow()
many N        defines N functions, many_0 and so on
First line out: `ready PID`. Then one line `done WORD ...` a command. End of input: the end.
"""
import os
import sys
import threading
import time

KEEP = []


def plain(n):
    return n


def rec(n):
    if n > 1:
        return rec(n - 1) + 1
    return plain(n)


def boom():
    raise ValueError("boom")


def gen(n):
    for i in range(n):
        yield i


def timed(stamps):
    stamps.append(now())
    for _ in range(1000):
        pass
    stamps.append(now())


def grow(mib):
    KEEP.append(b"s" * (mib << 20))


class Thing:
    def method(self):
        return 1

    @staticmethod
    def static():
        return 2


def outer():
    def inner():
        return 3

    return inner


INNER = outer()


def now():
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def say(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def calls_of_plain(count):
    for i in range(count):
        plain(i)


def recursion(depth):
    rec(depth)


def raising(count):
    held = []
    for _ in range(count):
        try:
            boom()
        except ValueError as error:
            held.append(error)
    plain(0)
    del held
    plain(1)


def in_threads(count):
    threads = [threading.Thread(target=calls_of_plain, args=(count,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def child(count, index):
    for i in range(count):
        plain(i)
    if index == 2:
        boom()


def forked(count):
    pids = []
    for index in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                child(count, index)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        pids.append(pid)
    return pids


def touch(count):
    for _ in range(count):
        plain.__code__.co_name
        str(plain.__code__)
    touched_inside(count)


def touched_inside(count):
    code = touched_inside.__code__
    for _ in range(count):
        sys._getframe().f_code
    return code


def generate(count):
    kept = [gen(3) for _ in range(count)]
    for one in kept[::2]:
        for _ in one:
            pass
    del kept


def timing(_):
    stamps = [now()]
    timed(stamps)
    stamps.append(now())
    return [repr(stamp) for stamp in stamps]


def define(_):
    exec(compile("def late(n):\n    return n\n", "/late.py", "exec"), globals())


def calls_of_late(count):
    for i in range(count):
        late(i)  # noqa: F821


def methods(count):
    for _ in range(count):
        Thing().method()
        Thing.static()
        INNER()


def many(count):
    for i in range(count):
        exec("def many_%d():\n    return %d\n" % (i, i), globals())


def growing(mib):
    for _ in range(mib):
        grow(1)


COMMANDS = {
    "plain": calls_of_plain,
    "recursion": recursion,
    "raise": raising,
    "threads": in_threads,
    "fork": forked,
    "touch": touch,
    "generate": generate,
    "time": timing,
    "define": define,
    "late": calls_of_late,
    "methods": methods,
    "many": many,
    "grow": growing,
}


def main():
    say("ready", os.getpid())
    for line in iter(sys.stdin.readline, ""):
        word, number = line.split()
        say("done", word, *(COMMANDS[word](int(number)) or []))


if __name__ == "__main__":
    main()
