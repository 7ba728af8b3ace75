"""Measures what a page fault costs this process; `cargo xtask bench` runs it with and without tracer.

Usage: python faults.py CASE.... For each line on stdin one round: prints {case: [CPU ns per fault, ...]}.
Cases: "touch D", one page per Python statement at D frames; "fill D", a C fill there.
"""
import ctypes
import json
import mmap
import resource
import sys
import time

MiB = 1 << 20
PAGE = mmap.PAGESIZE
TOUCHED = 16 * MiB
# Above glibc's largest M_MMAP_THRESHOLD, 32 MiB: each block is mapped anew.
FILLED = 40 * MiB
REPEATS = 5
# prctl(PR_SET_THP_DISABLE) (include/uapi/linux/prctl.h): one fault is one page, everywhere.
PR_SET_THP_DISABLE = 41


def touch():
    area = mmap.mmap(-1, TOUCHED, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    begin = time.thread_time_ns()
    for offset in range(0, TOUCHED, PAGE):
        area[offset] = 1
    spent = time.thread_time_ns() - begin
    area.close()
    return spent / (TOUCHED // PAGE)


def fill():
    begin = time.thread_time_ns()
    block = b"x" * FILLED
    spent = time.thread_time_ns() - begin
    del block
    return spent / (FILLED // PAGE)


def deeper(frames, measured):
    """Calls `measured` with so many frames in between, this one not counted."""
    return deeper(frames - 1, measured) if frames else measured()


def main():
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    for _ in sys.stdin:
        result = {}
        for name in sys.argv[1:]:
            kind, depth = name.split()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            result[name] = []
            for _ in range(REPEATS):
                # The module, main, deeper and the measured function are frames too.
                result[name].append(deeper(int(depth) - 4, {"touch": touch, "fill": fill}[kind]))
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
            if faults < REPEATS * TOUCHED // PAGE:
                raise SystemExit("%s: %d faults only" % (name, faults))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
