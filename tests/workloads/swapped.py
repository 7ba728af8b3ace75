"""Memory that is swapped out and in, with the stops of torture.py.

Usage: python swapped.py --ready FIFO --go FIFO. Needs swap space of 64 MiB.
"""
import argparse
import mmap
import os

MiB = 1 << 20
PAGE = mmap.PAGESIZE
PAGEOUT = 21  # MADV_PAGEOUT of <asm-generic/mman-common.h>


def stop(args, name, step):
    with open(args.ready, "w") as f:
        f.write("%s %s %d" % (name, step, os.getpid()))
    with open(args.go) as f:
        f.read()


def write(area, start, end):
    for offset in range(start, end, PAGE):
        area[offset] = offset // PAGE % 251 + 1


def read(area, start, end):
    return sum(area[offset] for offset in range(start, end, PAGE))


def out_and_in(args):
    name = "out_and_in"
    area = mmap.mmap(-1, 32 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    write(area, 0, 32 * MiB)
    stop(args, name, "written")
    area.madvise(PAGEOUT, 0, 24 * MiB)
    stop(args, name, "swapped-out")
    read(area, 0, 8 * MiB)
    stop(args, name, "read-back")
    write(area, 8 * MiB, 12 * MiB)
    stop(args, name, "written-back")
    area.madvise(mmap.MADV_DONTNEED, 10 * MiB, 10 * MiB)
    stop(args, name, "dropped")
    pid = os.fork()
    if pid == 0:
        stop(args, name, "forked")
        read(area, 20 * MiB, 24 * MiB)
        stop(args, name, "child-read")
        write(area, 0, 4 * MiB)
        stop(args, name, "child-wrote")
        os._exit(0)
    os.waitpid(pid, 0)
    read(area, 20 * MiB, 22 * MiB)
    stop(args, name, "parent-read")
    area.close()
    stop(args, name, "unmapped")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--ready", required=True)
    args.add_argument("--go", required=True)
    args = args.parse_args()
    stop(args, "begin", "begin")
    out_and_in(args)
    stop(args, "end", "end")


if __name__ == "__main__":
    main()
