"""A child that copies what it shares with its parent, page by page, while a tracer attaches; then
the parent writes all of it. Stands still before that, so that who shares what can be read."""
import argparse
import ctypes
import mmap
import os
import select

PAGE = mmap.PAGESIZE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
# Some pages a millisecond, so that no moment of the attach is without a copy, and longer than it.
AREA = 256 << 20


def stand(ready, go, address):
    with open(ready, "w") as f:
        f.write("%d" % address)
    with open(go) as f:
        f.read()


def copy_slowly(area, told):
    for offset in range(0, AREA, PAGE):
        area[offset] = 2
        if select.select([told], [], [], 0.0001)[0]:
            return


def write_all(area):
    for offset in range(0, AREA, PAGE):
        area[offset] = 3


def main():
    args = argparse.ArgumentParser()
    args.add_argument("ready")
    args.add_argument("go")
    args = args.parse_args()
    area = mmap.mmap(-1, AREA, PRIVATE)
    for offset in range(0, AREA, PAGE):
        area[offset] = 1
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    told, tell = os.pipe()
    done, say_done = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        copy_slowly(area, told)
        os.read(told, 1)
        os.write(say_done, b"d")
        os.read(told, 1)
        os._exit(0)
    stand(args.ready, args.go, address)
    os.write(tell, b"s")
    os.read(done, 1)
    stand(args.ready, args.go, address)
    write_all(area)
    # A copy is known when its thread does something else, and the child must be there until then.
    mmap.mmap(-1, PAGE).close()
    os.close(tell)
    os.waitpid(child, 0)


main()
