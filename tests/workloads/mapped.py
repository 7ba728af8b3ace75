"""Every way of asking for address space and of giving it back, one function each.

Usage: python mapped.py DIR. Prints one JSON line: {"pid": …, "child": PID, "truth": {function: {"mapped": bytes still
mapped of what it asked for, "gross": all that it asked for, "grown": by how much the kernel's VmSize grew in it}}}.
"""
import ctypes
import json
import os
import sys
import tempfile

MiB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
FAILED = ctypes.c_void_p(-1).value
PROT_NONE, PROT_WRITE = 0, 3
SHARED, PRIVATE, FIXED, ANONYMOUS = 1, 2, 0x10, 0x20
MAYMOVE, DONTUNMAP = 1, 4
MADV_DONTNEED = 4
SYS_BRK = 12

LIBC = ctypes.CDLL(None, use_errno=True)


def call(name, result, *arguments):
    function = getattr(LIBC, name)
    function.restype = result
    function.argtypes = arguments
    return function


address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
mmap = call("mmap", address, address, size, number, number, number, ctypes.c_long)
munmap = call("munmap", number, address, size)
mremap = call("mremap", address, address, size, size, number, address)
madvise = call("madvise", number, address, size, number)
sbrk = call("sbrk", address, ctypes.c_ssize_t)
shmget = call("shmget", number, number, size, number)
shmat = call("shmat", address, number, address, number)
shmctl = call("shmctl", number, number, number, address)
syscall = call("syscall", ctypes.c_long, ctypes.c_long, ctypes.c_long)
memset = call("memset", address, address, number, size)


def area(bytes, prot=PROT_WRITE, flags=PRIVATE | ANONYMOUS, fd=-1, at=None):
    got = mmap(at, bytes, prot, flags, fd, 0)
    assert got != FAILED, os.strerror(ctypes.get_errno())
    return got


def anonymous():
    area(64 * MiB)
    return 64, 64


def given_back():
    block = area(64 * MiB)
    assert munmap(block + 20 * MiB, 24 * MiB) == 0
    return 40, 64


def heap():
    assert sbrk(32 * MiB) != FAILED
    assert sbrk(-8 * MiB) != FAILED
    return 24, 32


def remapped():
    block = area(16 * MiB)
    # Not in place: something follows.
    area(PAGE, at=block + 16 * MiB)
    assert mremap(block, 16 * MiB, 64 * MiB, MAYMOVE, None) not in (block, FAILED)
    return 64, 64


def remapped_in_place():
    block = area(64 * MiB)
    assert munmap(block + 16 * MiB, 48 * MiB) == 0
    assert mremap(block, 16 * MiB, 32 * MiB, 0, None) == block
    return 32, 80


def shrunk():
    block = area(64 * MiB)
    assert mremap(block, 64 * MiB, 16 * MiB, 0, None) == block
    return 16, 64


def mapped_over():
    block = area(64 * MiB)
    area(16 * MiB, flags=PRIVATE | ANONYMOUS | FIXED, at=block + 8 * MiB)
    return 64, 80


def discarded():
    block = area(64 * MiB)
    memset(block, 1, 4 * MiB)
    assert madvise(block, 64 * MiB, MADV_DONTNEED) == 0
    return 64, 64


def failed():
    block = area(64 * MiB)
    assert munmap(block + 1, 64 * MiB) == -1
    assert munmap(block, 0) == -1
    assert madvise(block + 1, 64 * MiB, MADV_DONTNEED) == -1
    # No such descriptor.
    assert mmap(block, 32 * MiB, PROT_WRITE, PRIVATE | FIXED, 9999, 0) == FAILED
    # No such flag.
    assert mremap(block, 64 * MiB, 32 * MiB, 0x40, None) == FAILED
    assert mmap(None, 1 << 60, PROT_WRITE, PRIVATE | ANONYMOUS, -1, 0) == FAILED
    # Below the heap's begin; the answer is its end, whatever heap() had of it stays.
    assert syscall(SYS_BRK, 1) == sbrk(0)
    return 64, 64


def left_mapped():
    block = area(16 * MiB)
    assert mremap(block, 16 * MiB, 16 * MiB, MAYMOVE | DONTUNMAP, None) not in (block, FAILED)
    return 32, 32


def shared():
    area(16 * MiB, flags=SHARED | ANONYMOUS)
    segment = shmget(0, 32 * MiB, 0o1600)
    assert segment >= 0 and shmat(segment, None, 0) != FAILED
    assert shmctl(segment, 0, None) == 0
    return 48, 48


def of_a_file():
    with tempfile.TemporaryFile(dir=sys.argv[1]) as file:
        os.truncate(file.fileno(), 32 * MiB)
        area(32 * MiB, flags=PRIVATE, fd=file.fileno())
    return 32, 32


def reserved():
    area(128 * MiB, prot=PROT_NONE)
    return 128, 128


def before_fork():
    return area(32 * MiB)


def in_the_child(block):
    assert munmap(block, 16 * MiB) == 0
    area(8 * MiB)


def forked(block):
    child = os.fork()
    if child == 0:
        in_the_child(block)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return child


def spare_room():
    """Room in Python's arenas, so that no further one is mapped between a case and the look at VmSize."""
    many = [bytes(100) for _ in range(100_000)]
    return many[::5_000]


def main():
    kept = spare_room()
    statm = os.open("/proc/self/statm", os.O_RDONLY)

    def vm_size():
        return int(os.pread(statm, 64, 0).split()[0]) * PAGE

    truth = {}
    # The first call makes what stays: the functions' types, a temporary folder's name, a child's lock.
    tempfile.TemporaryFile(dir=sys.argv[1]).close()
    cases = [anonymous, given_back, heap, remapped, remapped_in_place, shrunk, mapped_over]
    for case in cases + [discarded, failed, left_mapped, shared, of_a_file, reserved]:
        before = vm_size()
        mapped, gross = case()
        grown = vm_size() - before
        truth[case.__name__] = {"mapped": mapped * MiB, "gross": gross * MiB, "grown": grown}
    child = forked(before_fork())
    assert len(kept) == 20
    print(json.dumps({"pid": os.getpid(), "child": child, "truth": truth}))


if __name__ == "__main__":
    main()
