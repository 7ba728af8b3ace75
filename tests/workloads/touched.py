"""A block of 512 MiB of which 0, 10, … 100 % are touched; each anew, and given back after the stop.

Usage: python touched.py --ready FIFO --go FIFO. Writes `PERCENT touched PID` at each stop, after `begin`.
"""
import argparse
import contextlib
import mmap
import os

SIZE = 512 << 20
PAGE = mmap.PAGESIZE


def stop(args, name, step):
    with open(args.ready, "w") as f:
        f.write("%s %s %d" % (name, step, os.getpid()))
    with open(args.go) as f:
        f.read()


def block(percent):
    area = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # Small pages, whatever the machine's setting; an error: it has no others.
    with contextlib.suppress(OSError):
        area.madvise(mmap.MADV_NOHUGEPAGE)
    for offset in range(0, SIZE // 100 * percent, PAGE):
        area[offset] = 1
    return area


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--ready", required=True)
    args.add_argument("--go", required=True)
    args = args.parse_args()
    for percent in range(0, 101, 10):
        stop(args, "begin", "begin")
        area = block(percent)
        stop(args, str(percent), "touched")
        area.close()


if __name__ == "__main__":
    main()
