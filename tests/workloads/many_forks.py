"""Forks children in a row, each of which grows, writes what it shares, and goes.

Usage: python many_forks.py --ready FIFO --go FIFO --count N. Stops are those of torture.py: `begin`, one after every
tenth of the children, and `end`.
"""
import argparse
import mmap
import os

PAGES = 16
SHARED = mmap.mmap(-1, PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def stop(args, name, step):
    with open(args.ready, "w") as f:
        f.write("%s %s %d" % (name, step, os.getpid()))
    with open(args.go) as f:
        f.read()


def touch(area):
    for offset in range(0, PAGES * mmap.PAGESIZE, mmap.PAGESIZE):
        area[offset] = 1


def child():
    touch(SHARED)
    touch(mmap.mmap(-1, PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    os._exit(0)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--ready", required=True)
    args.add_argument("--go", required=True)
    args.add_argument("--count", type=int, required=True)
    args = args.parse_args()
    touch(SHARED)
    stop(args, "begin", "begin")
    for number in range(args.count):
        pid = os.fork()
        if pid == 0:
            child()
        os.waitpid(pid, 0)
        if (number + 1) % max(args.count // 10, 1) == 0:
            stop(args, "forks", str(number + 1))
    stop(args, "end", "end")


if __name__ == "__main__":
    main()
