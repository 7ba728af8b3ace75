"""Allocates at the bottom of a recursion 900 deep, which the default limit of 1000 still allows."""
import json
import os

MiB = 1 << 20
DEPTH = 900
KEEP = []


def descend(left):
    if left == 1:
        bottom()
    else:
        descend(left - 1)


def bottom():
    KEEP.append(b"d" * (16 * MiB))


def main():
    descend(DEPTH)
    print(json.dumps({"pid": os.getpid(), "truth": {"bottom": 16 * MiB, "descend": 16 * MiB}}))


if __name__ == "__main__":
    main()
