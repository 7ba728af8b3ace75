"""Touches more than a memory limit allows: clean file pages are reclaimed, and then somebody is killed.

Usage: python under_pressure.py --ready FIFO --go FIFO --limit BYTES [--fill [--in-child]]
The limit is set from outside at the first stop, `begin`. Without --fill it only does what reclaim can serve, with the
stops of torture.py. With --fill it grows without end and prints `filled MIB` after each MiB; --in-child has a child
do so, and `child STATUS PID` comes after its end.
"""
import argparse
import mmap
import os
import tempfile

MiB = 1 << 20
PAGE = mmap.PAGESIZE
KEEP = []


def stop(args, name, step):
    with open(args.ready, "w") as f:
        f.write("%s %s %d" % (name, step, os.getpid()))
    with open(args.go) as f:
        f.read()


def mapped_file(size):
    with tempfile.TemporaryFile() as file:
        for _ in range(size // MiB):
            file.write(b"f" * MiB)
            file.flush()
            os.fsync(file.fileno())
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read(area):
    return sum(area[offset] for offset in range(0, len(area), PAGE))


def grow(size):
    area = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, PAGE):
        area[offset] = 1
    KEEP.append(area)


def reclaimed(args):
    area = mapped_file(args.limit // 2)
    read(area)
    stop(args, "reclaimed", "file-read")
    for step in range(6):
        grow(args.limit // 10)
        stop(args, "reclaimed", "grown-%d" % step)
    read(area)
    stop(args, "reclaimed", "file-read-again")
    larger = mapped_file(args.limit * 2)
    read(larger)
    stop(args, "reclaimed", "larger-than-the-limit")
    del KEEP[:]
    read(area)
    stop(args, "reclaimed", "room-again")


def fill():
    filled = 0
    while True:
        grow(MiB)
        filled += 1
        os.write(1, b"filled %d\n" % filled)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--ready", required=True)
    args.add_argument("--go", required=True)
    args.add_argument("--limit", type=int, required=True)
    args.add_argument("--fill", action="store_true")
    args.add_argument("--in-child", action="store_true")
    args = args.parse_args()
    stop(args, "begin", "begin")
    if not args.fill:
        reclaimed(args)
    elif args.in_child:
        # The kernel chooses the largest: the child, as it grows and its parent does not.
        pid = os.fork()
        if pid == 0:
            fill()
        status = os.waitpid(pid, 0)[1]
        os.write(1, b"child %d %d\n" % (status, pid))
    else:
        fill()
    stop(args, "end", "end")


if __name__ == "__main__":
    main()
