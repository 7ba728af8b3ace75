"""A caller that is replaced at its address, from a file's name, each time after many captures: what
it had made resident is not its successor's. Out: a line of JSON.
"""
import gc
import json
import mmap
import os
import types

PAGES = 16
DATA = b"x" * (PAGES * mmap.PAGESIZE)
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
ROUNDS = 12
CALLS = 80
KEEP = []


def touch():
    area = mmap.mmap(-1, len(DATA), PRIVATE)
    KEEP.append(area)
    area.write(DATA)


def page(count):
    for _ in range(count):
        touch()


def main():
    gc.disable()
    names = ["page_%03d" % number for number in range(ROUNDS)]
    code = page.__code__.replace(co_filename="/templates/page.html")
    for name in names:
        # The one before has just gone, and has left its place.
        made = types.FunctionType(code.replace(co_name=name, co_qualname=name), globals())
        made(CALLS)
        del made
    size = CALLS * len(DATA)
    print(json.dumps({"pid": os.getpid(), "truth": {name: size for name in names}}))


if __name__ == "__main__":
    main()
