"""Makes known amounts of memory resident in C code, one kind a function, with the answer printed.

Usage: python native.py --plain LIB --stripped LIB --first LIB --second LIB --ready FIFO --go FIFO [--numpy]
The libraries are builds of native/native.c: as it is, stripped, and two with another name of the filling function
(first_fill, second_fill). At each of the stops `begin`, `first`, `second` and `end` it writes `NAME PID` to --ready and
waits on --go. Prints {"pid": …, "worker": pid, "truth": {function: bytes}}: what each function itself made resident,
by /proc/self/smaps_rollup.
"""
import argparse
import _ctypes
import ctypes
import json
import mmap
import os
import sys
import zlib

MiB = 1 << 20
SIZE = 8 * MiB
KEEP = []
TRUTH = {}


def rss():
    with open("/proc/self/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith("Rss:"):
                return int(line.split()[1]) << 10


def measured(function, *arguments):
    before = rss()
    function(*arguments)
    TRUTH[function.__name__] = rss() - before


def fresh(size=SIZE):
    """An area nobody has touched, never given back, in small pages only."""
    area = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    KEEP.append(area)
    pointer = ctypes.addressof(ctypes.c_char.from_buffer(area))
    return ctypes.c_void_p(pointer), ctypes.c_size_t(size)


def exported(library):
    library.named_fill(*fresh())


def not_exported(library):
    library.call_hidden(*fresh())


def stripped_exported(library):
    library.named_fill(*fresh())


def stripped_not_exported(library):
    library.call_hidden(*fresh())


def bare_thread(library):
    assert not library.in_bare_thread(*fresh())


def made_code(library):
    assert not library.in_made_code(*fresh())


def read_by_library(library):
    with open("/dev/zero", "rb") as zeroes:
        assert not library.by_read(*fresh(), zeroes.fileno())


def read_by_python():
    with open("/dev/zero", "rb", 0) as zeroes:
        KEEP.append(zeroes.read(SIZE))


def filled_by_libc():
    KEEP.append(b"x" * SIZE)


def copied_by_libc():
    KEEP.append(bytearray(KEEP[-1]))


def touched_by_the_loop():
    area = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    KEEP.append(area)
    for offset in range(0, SIZE, mmap.PAGESIZE):
        area[offset] = 1


def inflated():
    # Not all zeroes, or inflate would use memset.
    KEEP.append(zlib.decompress(zlib.compress(os.urandom(MiB // 16) * 128, 1)))


def first_library(library):
    library.first_fill(*fresh())


def second_library(library):
    library.second_fill(*fresh())


def loaded_and_unloaded(path, function, stop):
    """The address of the code that ran."""
    library = ctypes.CDLL(path)
    stop()
    measured(function, library)
    address = ctypes.cast(library.call_hidden, ctypes.c_void_p).value
    _ctypes.dlclose(library._handle)
    return address


def numpy_ones(numpy):
    # More than glibc ever keeps for later (DEFAULT_MMAP_THRESHOLD_MAX): it is always fresh.
    KEEP.append(numpy.ones(48 * MiB // 8))


def numpy_product(numpy, left):
    KEEP.append(left @ left)


def with_numpy():
    import numpy
    left = numpy.ones((1024, 1024))
    measured(numpy_ones, numpy)
    measured(numpy_product, numpy, left)


def worker(library):
    """A forked child writes to half of what it inherited, and fills as much anew."""
    pointer, size = fresh()
    library.named_fill(pointer, size)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        library.unshare_fill(pointer, ctypes.c_size_t(size.value // 2))
        library.call_hidden(*fresh())
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    return child


def main():
    args = argparse.ArgumentParser()
    for name in ("plain", "stripped", "first", "second", "ready", "go"):
        args.add_argument("--" + name, required=True)
    args.add_argument("--numpy", action="store_true")
    args = args.parse_args()

    def stop(name):
        with open(args.ready, "w") as ready:
            ready.write(f"{name} {os.getpid()}")
        with open(args.go) as go:
            go.read()

    stop("begin")
    plain, stripped = ctypes.CDLL(args.plain), ctypes.CDLL(args.stripped)
    # What only a first call touches, in ctypes and in reading /proc.
    plain.named_fill(*fresh(mmap.PAGESIZE))
    measured(rss)
    del TRUTH["rss"]
    measured(exported, plain)
    measured(not_exported, plain)
    measured(stripped_exported, stripped)
    measured(stripped_not_exported, stripped)
    measured(bare_thread, plain)
    measured(made_code, plain)
    measured(read_by_library, plain)
    measured(read_by_python)
    measured(filled_by_libc)
    measured(copied_by_libc)
    measured(touched_by_the_loop)
    measured(inflated)
    # The second comes to lie where the first one was.
    first = loaded_and_unloaded(args.first, first_library, lambda: stop("first"))
    second = loaded_and_unloaded(args.second, second_library, lambda: stop("second"))
    assert first == second, (first, second)
    if args.numpy:
        with_numpy()
    child = worker(plain)
    print(json.dumps({"pid": os.getpid(), "worker": child, "truth": TRUTH}))
    sys.stdout.flush()
    stop("end")


if __name__ == "__main__":
    main()
