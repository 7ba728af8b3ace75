"""Maps areas, touches known pages of them, says where they are, and waits for the end of stdin."""
import ctypes
import json
import mmap
import os
import tempfile

PAGE = 4096
MiB = 1 << 20
MADV_GUARD_INSTALL = 102  # include/uapi/asm-generic/mman-common.h, Linux 6.13
KEEP = []
AREAS = {}


def area(name, pages, *args, **kwargs):
    """An area of its own: a mapping that nothing is merged with."""
    made = mmap.mmap(*(args or (-1, (pages + 2) * PAGE)), **kwargs)
    KEEP.append(made)
    address = ctypes.addressof(ctypes.c_char.from_buffer(made))
    if not args:
        # A page before and after stays untouched, so that no neighbour continues a run.
        address += PAGE
    AREAS[name] = address
    return address


def write(address, *pages):
    for page in pages:
        ctypes.c_char.from_address(address + page * PAGE).value = b"x"


def read(address, *pages):
    return [ctypes.c_char.from_address(address + page * PAGE).value for page in pages]


PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
madvise = ctypes.CDLL(None, use_errno=True).madvise
madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def no_huge(address, pages):
    madvise(address, pages * PAGE, mmap.MADV_NOHUGEPAGE)


def main():
    area("untouched", 64, **PRIVATE)
    touched = area("touched", 64, **PRIVATE)
    write(touched, 0, 5, 6, 7, 8, 9)
    read(touched, 20)
    back = area("given_back", 64, **PRIVATE)
    write(back, *range(64))
    madvise(back + 8 * PAGE, 8 * PAGE, mmap.MADV_DONTNEED)
    with tempfile.TemporaryFile() as file:
        file.write(b"f" * (64 * PAGE))
        file.flush()
        private = area("private_file", 64, file.fileno(), 64 * PAGE, flags=mmap.MAP_PRIVATE,
                       prot=mmap.PROT_READ | mmap.PROT_WRITE)
        read(private, *range(64))
        write(private, 3)
        shared = area("shared_file", 64, file.fileno(), 64 * PAGE, flags=mmap.MAP_SHARED)
        read(shared, *range(64))
    write(area("shared_anonymous", 64), 1, 2)
    guarded = area("guarded", 64, **PRIVATE)
    write(guarded, *range(64))
    madvise(guarded + 4 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL)
    large = area("large", 80 * MiB // PAGE, **PRIVATE)
    no_huge(large - PAGE, 80 * MiB // PAGE + 2)
    ctypes.memset(large, 1, 80 * MiB)
    striped = area("striped", 8 * MiB // PAGE, **PRIVATE)
    no_huge(striped - PAGE, 8 * MiB // PAGE + 2)
    write(striped, *range(0, 8 * MiB // PAGE, 2))
    huge = (area("huge", 6 * MiB // PAGE, **PRIVATE) + 2 * MiB - 1) // (2 * MiB) * (2 * MiB)
    # Without huge pages of both kinds on this machine there is nothing to see.
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as enabled:
        AREAS["huge"] = 0 if "[never]" in enabled.read() else huge
    madvise(huge, 4 * MiB, mmap.MADV_HUGEPAGE)
    write(huge, 0)
    read(huge, 2 * MiB // PAGE)
    os.write(1, (json.dumps(AREAS) + "\n").encode())
    os.read(0, 1)


main()
