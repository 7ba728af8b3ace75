"""Forks children in a row, each of which grows, writes what it shares, and goes.

Usage: python many_forks.py --ready FIFO --go FIFO --count N. Stops are those of torture.py: `begin`, one after every
tenth of the children, and `end`. Prints {"pid": …, "touched": bytes}: what the children say that they grew in touch().
"""
import argparse
import json
import mmap
import os

PAGES = 16
SHARED = mmap.mmap(-1, PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
TOLD, TELL = os.pipe()


def rss_pages():
    fd = os.open("/proc/self/statm", os.O_RDONLY)
    text = os.read(fd, 100)
    os.close(fd)
    return int(text.split()[1])


def stop(args, name, step):
    with open(args.ready, "w") as f:
        f.write("%s %s %d" % (name, step, os.getpid()))
    with open(args.go) as f:
        f.read()


def touch(area):
    for offset in range(0, PAGES * mmap.PAGESIZE, mmap.PAGESIZE):
        area[offset] = 1


def child():
    area = mmap.mmap(-1, PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # Once for nothing: a new process has no pages of the interpreter's own file yet.
    rss_pages()
    before = rss_pages()
    touch(SHARED)
    touch(area)
    os.write(TELL, b"%8d" % (rss_pages() - before))
    os._exit(0)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--ready", required=True)
    args.add_argument("--go", required=True)
    args.add_argument("--count", type=int, required=True)
    args = args.parse_args()
    touch(SHARED)
    stop(args, "begin", "begin")
    touched = 0
    for number in range(args.count):
        pid = os.fork()
        if pid == 0:
            child()
        os.waitpid(pid, 0)
        touched += int(os.read(TOLD, 8)) * mmap.PAGESIZE
        if (number + 1) % max(args.count // 10, 1) == 0:
            stop(args, "forks", str(number + 1))
    stop(args, "end", "end")
    print(json.dumps({"pid": os.getpid(), "touched": touched}))


if __name__ == "__main__":
    main()
