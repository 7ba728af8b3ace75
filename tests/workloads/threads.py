"""Threads that touch fresh memory with the GIL released, while the main thread holds it and spins.

Usage: python threads.py. Each body touches SIZE bytes; prints {"pid": …, "truth": {function: bytes}}.
read_released: the kernel touches the pages of shared memory, inside read(). copy_released: the same with private
memory, through a file object. inflate_released: zlib does, in C. spin() holds the GIL meanwhile and allocates nothing:
whoever charges the holder of the GIL charges spin().
"""
import json
import mmap
import os
import threading
import zlib

MiB = 1 << 20
SIZE = 24 * MiB
KEEP = []
START = threading.Barrier(4)
BLOB = zlib.compress(b"\0" * SIZE)


def read_released():
    area = mmap.mmap(-1, SIZE)
    KEEP.append(area)
    START.wait()
    zero = os.open("/dev/zero", os.O_RDONLY)
    filled = 0
    while filled < SIZE:
        filled += os.readv(zero, [memoryview(area)[filled : filled + MiB]])
    os.close(zero)


def copy_released():
    area = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    KEEP.append(area)
    START.wait()
    with open("/dev/zero", "rb", buffering=0) as zero:
        for offset in range(0, SIZE, MiB):
            zero.readinto(memoryview(area)[offset : offset + MiB])


def inflate_released():
    START.wait()
    KEEP.append(zlib.decompress(BLOB, bufsize=SIZE))


def spin(threads):
    START.wait()
    steps = 0
    while any(thread.is_alive() for thread in threads):
        steps += 1
    return steps


def main():
    bodies = (read_released, copy_released, inflate_released)
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    spin(threads)
    truth = {body.__name__: SIZE for body in bodies}
    print(json.dumps({"pid": os.getpid(), "truth": truth}))


if __name__ == "__main__":
    main()
