"""A master that loads data, and a worker of it that stands still until it may write all of that.

Usage: lone_worker.py READY GO. The worker tells its pid on READY, and what it copied (the gain of
Private_Dirty, from the kernel) as a line of JSON on standard output.
"""
import json
import os
import sys

SHARED = []


def private_dirty():
    with open("/proc/self/smaps_rollup") as f:
        for line in f:
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1]) * 1024


def unshare():
    for item in SHARED:
        item[1] = 1


def unshare_again():
    for item in SHARED:
        item[1] = 2


def worker(ready, go):
    with open(ready, "w") as f:
        f.write(str(os.getpid()))
    with open(go) as f:
        f.read()
    before = private_dirty()
    unshare()
    copied = private_dirty() - before
    unshare_again()
    print(json.dumps({"pid": os.getpid(), "truth": {"unshare": copied}}), flush=True)


def main():
    SHARED.extend([i, None] for i in range(300000, 600000))
    child = os.fork()
    if child == 0:
        worker(*sys.argv[1:])
        os._exit(0)
    os.waitpid(child, 0)


main()
