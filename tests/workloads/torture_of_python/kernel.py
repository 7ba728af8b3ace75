"""What the kernel and the C library do with pages for the program."""
import ctypes
import mmap
import os
import socket
import tempfile
import threading

from .common import MREMAP_MAYMOVE, PRIVATE, MiB, stop, temporary


def kernel_side():
    with temporary(4 * MiB) as file:
        fresh = bytearray(4 * MiB)
        file.seek(0)
        file.readinto(fresh)
        stop("kernel_side", "readinto")
        areas = [mmap.mmap(-1, MiB, PRIVATE) for _ in range(4)]
        os.preadv(file.fileno(), areas, 0)
        stop("kernel_side", "preadv")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with tempfile.TemporaryFile() as other:
            os.write(other.fileno(), mapped)
            stop("kernel_side", "written-from-mapping")
            os.sendfile(other.fileno(), file.fileno(), 0, 2 * MiB)
            stop("kernel_side", "sendfile")
        mapped.close()
        del fresh, areas
        stop("kernel_side", "closed")


def sockets():
    one, other = socket.socketpair()
    area = mmap.mmap(-1, 2 * MiB, PRIVATE)
    data = os.urandom(2 * MiB)
    sender = threading.Thread(target=one.sendall, args=(data,))
    sender.start()
    view, got = memoryview(area), 0
    while got < len(data):
        got += other.recv_into(view[got:])
    sender.join()
    stop("sockets", "received")
    kept = [other.recv(65536) for _ in range(16) if one.send(bytes(65536))]
    stop("sockets", "kept")
    view.release()
    area.close()
    del kept
    one.close()
    other.close()
    stop("sockets", "closed")


def libc_heap():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sbrk.restype = ctypes.c_void_p
    libc.sbrk.argtypes = (ctypes.c_ssize_t,)
    begin = libc.sbrk(4 * MiB)
    ctypes.memset(begin, 1, 4 * MiB)
    stop("libc_heap", "up")
    # malloc may have gone on above it: then it stays.
    if libc.sbrk(0) == begin + 4 * MiB:
        libc.sbrk(-3 * MiB)
    stop("libc_heap", "down")
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = libc.free.argtypes = None
    blocks = [libc.malloc(ctypes.c_size_t(size)) for size in (100, 10_000, 100_000, 4 * MiB) * 20]
    for block in blocks[::3]:
        ctypes.memset(block, 1, 100)
    stop("libc_heap", "malloc")
    for block in blocks:
        libc.free(ctypes.c_void_p(block))
    libc.malloc_trim(0)
    stop("libc_heap", "trimmed")


def libc_mremap():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
    size = ctypes.c_size_t
    area = libc.mmap(None, size(2 * MiB), 3, PRIVATE, -1, ctypes.c_long(0))
    ctypes.memset(area, 1, MiB)
    for step, (old, new) in enumerate(((2, 6), (6, 3), (3, 9))):
        area = libc.mremap(ctypes.c_void_p(area), size(old * MiB), size(new * MiB), MREMAP_MAYMOVE)
        ctypes.memset(area + (new - 1) * MiB, 1, MiB // 2)
        stop("libc_mremap", "%d-mib" % new)
    libc.munmap(ctypes.c_void_p(area + MiB), size(MiB))
    stop("libc_mremap", "hole")
    libc.munmap(ctypes.c_void_p(area), size(9 * MiB))
    stop("libc_mremap", "unmapped")


def interpreter_pages():
    """The pages of the interpreter's own code go, and come back from the file one by one."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps]
    for words in lines:
        if words[1] == "r-xp" and "python" in words[-1]:
            start, end = (int(word, 16) for word in words[0].split("-"))
            if libc.madvise(start, end - start, mmap.MADV_DONTNEED):
                raise OSError(ctypes.get_errno(), "madvise")
    stop("interpreter_pages", "given-back")
