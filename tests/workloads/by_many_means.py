"""Makes RSS go up and down by every means that Python offers, and stops for a look after each.

Usage: python by_many_means.py --ready FIFO --go FIFO. At each stop it writes `NAME PID` to the first and waits
on the second; the last stop is `end`. Nothing that was resident before the first stop is given back.
"""
import argparse
import ctypes
import mmap
import os
import tempfile
import threading

MiB = 1 << 20
PAGE = mmap.PAGESIZE
KEEP = []


def touch(area, start, end):
    for offset in range(start, end, PAGE):
        area[offset] = 1


def heap():
    KEEP.append([(i, str(i)) for i in range(100000)])


def blocks():
    KEEP.extend(b"b" * (3 * MiB) for _ in range(8))
    del KEEP[-3:]


def mapping_in_part():
    area = mmap.mmap(-1, 32 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    touch(area, 8 * MiB, 20 * MiB)
    area.madvise(mmap.MADV_DONTNEED, 12 * MiB, 4 * MiB)
    KEEP.append(area)


def grown_and_shrunk():
    area = mmap.mmap(-1, 4 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    touch(area, 0, 4 * MiB)
    area.resize(16 * MiB)
    touch(area, 4 * MiB, 16 * MiB)
    area.resize(10 * MiB)
    KEEP.append(area)


def populated():
    populate = 0x8000  # MAP_POPULATE of <linux/mman.h> on x86-64; the mmap module has it from 3.10 on
    KEEP.append(mmap.mmap(-1, 6 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | populate))


def huge_pages():
    area = mmap.mmap(-1, 12 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_HUGEPAGE)
    touch(area, 0, 12 * MiB)
    KEEP.append(area)


def shared():
    area = mmap.mmap(-1, 8 * MiB)
    touch(area, 0, 8 * MiB)
    KEEP.append(area)


def file_read():
    file = tempfile.TemporaryFile()
    file.write(b"f" * (9 * MiB))
    file.flush()
    area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    KEEP.append((area, sum(area[offset] for offset in range(0, 9 * MiB, PAGE))))


def file_written():
    file = tempfile.TemporaryFile()
    file.write(b"f" * (5 * MiB))
    file.flush()
    area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    touch(area, 0, 5 * MiB)
    KEEP.append(area)


def in_kernel():
    # Into a mapping of its own: a block of malloc's may be one that was given back before.
    area = mmap.mmap(-1, 7 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    zero = os.open("/dev/zero", os.O_RDONLY)
    os.readv(zero, [area])
    os.close(zero)
    KEEP.append(area)


def c_malloc():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    for size in (100000, 3 * MiB):
        block = libc.malloc(ctypes.c_size_t(size))
        ctypes.memset(block, 1, size)
    KEEP.append(libc)


def two_threads():
    def fill():
        KEEP.append(b"t" * (5 * MiB))
        KEEP.append([object() for _ in range(50000)])

    threads = [threading.Thread(target=fill) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


MEANS = (
    heap, blocks, mapping_in_part, grown_and_shrunk, populated, huge_pages, shared,
    file_read, file_written, in_kernel, c_malloc, two_threads,
)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--ready", required=True)
    args.add_argument("--go", required=True)
    args = args.parse_args()

    def stop(name):
        with open(args.ready, "w") as f:
            f.write("%s %d" % (name, os.getpid()))
        with open(args.go) as f:
            f.read()

    stop("begin")
    for means in MEANS:
        means()
    child = os.fork()
    if child == 0:
        # Unshares what the parent made, and grows by itself.
        KEEP.append([item for item in KEEP[0]])
        KEEP.append(b"c" * (6 * MiB))
        stop("child")
        os._exit(0)
    os.waitpid(child, 0)
    stop("end")


if __name__ == "__main__":
    main()
