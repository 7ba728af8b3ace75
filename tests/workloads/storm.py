"""Forks short-lived children as fast as it can; each touches fresh memory in burst() and ends by os._exit.

Usage: python storm.py [CHILDREN] [AT_ONCE]. Prints {"pid": …, "children": [pid, …], "burst": bytes}.
The children's block is a mapping of its own: fresh pages whatever the parent had.
"""
import json
import mmap
import os
import sys

MiB = 1 << 20
PAGE = mmap.PAGESIZE


def burst():
    area = mmap.mmap(-1, MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, MiB, PAGE):
        area[offset] = 1
    return area


def reap(pid):
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit("child %d ended with status %d" % (pid, status))


def main():
    count, at_once = (int(word) for word in (sys.argv[1:] + ["200", "8"][len(sys.argv) - 1 :]))
    children = []
    for number in range(count):
        if number >= at_once:
            reap(children[number - at_once])
        pid = os.fork()
        if pid == 0:
            area = burst()
            os._exit(0 if area[0] else 1)
        children.append(pid)
    for pid in children[-at_once:]:
        reap(pid)
    print(json.dumps({"pid": os.getpid(), "children": children, "burst": MiB}))


if __name__ == "__main__":
    main()
