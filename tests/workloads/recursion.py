"""Allocates at the bottom of a recursion 990 deep, which the default limit allows, and of one
3000 deep.
"""
import json
import os
import sys
import threading

MiB = 1 << 20
KEEP = []


def descend(left, bottom):
    if left == 1:
        bottom()
    else:
        descend(left - 1, bottom)


def bottom_990():
    KEEP.append(b"d" * (16 * MiB))


def bottom_3000():
    KEEP.append(b"e" * (8 * MiB))


def main():
    descend(990, bottom_990)
    sys.setrecursionlimit(5000)
    descend(3000, bottom_3000)
    truth = {"bottom_990": 16 * MiB, "bottom_3000": 8 * MiB}
    print(json.dumps({"pid": os.getpid(), "truth": truth}))


if __name__ == "__main__":
    # In a thread, for a C stack that is large enough in every version.
    threading.stack_size(256 * MiB)
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
