"""Forks N children one after the other, each of which touches a little and exits at once.

Usage: python forks.py N. Prints `ready PID`, waits for a line, prints `forked N`, and ends at the end of its input.
"""
import os
import sys


def child():
    block = bytearray(100000)
    os._exit(len(block) == 0)


def main():
    count = int(sys.argv[1])
    sys.stdout.write("ready %d\n" % os.getpid())
    sys.stdout.flush()
    sys.stdin.readline()
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            child()
        if os.waitpid(pid, 0)[1]:
            sys.exit("a child failed")
    sys.stdout.write("forked %d\n" % count)
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
