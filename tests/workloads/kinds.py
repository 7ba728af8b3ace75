"""Makes known amounts of memory resident that are no Python heap, one kind a function.

Usage: python kinds.py --file PATH --ready FIFO --go FIFO. At each of the stops `begin`, `grown` and `unmapped` it writes
`NAME PID` to --ready and waits on --go. At `grown` it prints {"pid": …, "truth": {function: {"anon", "file", "shmem"}}}:
by how much each function raised the kernel's own counts. PATH is made, of FILE bytes, before the first stop.
"""
import argparse
import ctypes
import json
import mmap
import os

MiB = 1 << 20
PAGE = mmap.PAGESIZE
FILE = 16 * MiB
KEEP = {}
LIBC = ctypes.CDLL(None, use_errno=True)
BLOB = b"x" * (24 * MiB)


def rss():
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    names = {"anon": "RssAnon", "file": "RssFile", "shmem": "RssShmem"}
    return {kind: int(fields[name].split()[0]) << 10 for kind, name in names.items()}


def touch(area):
    for offset in range(0, len(area), PAGE):
        area[offset] = 1


def mapped_file(path):
    with open(path, "rb") as file:
        area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    KEEP["file"] = area
    return sum(area[offset] for offset in range(0, len(area), PAGE))


def memfd(path):
    fd = os.memfd_create("kinds")
    os.ftruncate(fd, 4 * MiB)
    KEEP["memfd"] = mmap.mmap(fd, 0)
    os.close(fd)
    touch(KEEP["memfd"])


def shared_anonymous(path):
    KEEP["anonymous"] = mmap.mmap(-1, 8 * MiB)
    touch(KEEP["anonymous"])


def posix_shared(path):
    name = f"/dev/shm/memprof-kinds-{os.getpid()}"
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(name)
    os.ftruncate(fd, 6 * MiB)
    KEEP["posix"] = mmap.mmap(fd, 0)
    os.close(fd)
    touch(KEEP["posix"])


def system_v_shared(path):
    # IPC_PRIVATE and IPC_RMID of <linux/ipc.h> are both 0.
    segment = LIBC.shmget(0, ctypes.c_size_t(2 * MiB), 0o600)
    LIBC.shmat.restype = ctypes.c_void_p
    address = LIBC.shmat(segment, None, 0)
    LIBC.shmctl(segment, 0, None)
    ctypes.memset(address, 1, 2 * MiB)


def bare_thread(path):
    # strdup is all that the thread runs: it copies BLOB into fresh memory, and has no Python state.
    thread = ctypes.c_ulong()
    start = ctypes.cast(LIBC.strdup, ctypes.c_void_p)
    argument = ctypes.cast(ctypes.c_char_p(BLOB), ctypes.c_void_p)
    failed = LIBC.pthread_create(ctypes.byref(thread), None, start, argument)
    assert not failed, os.strerror(failed)
    LIBC.pthread_join(thread, None)


def in_kernel(path):
    KEEP["read"] = mmap.mmap(-1, 7 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with open(path, "rb", buffering=0) as file:
        assert file.readinto(memoryview(KEEP["read"])) == 7 * MiB


def heap(path):
    KEEP["heap"] = mmap.mmap(-1, 10 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    touch(KEEP["heap"])


STEPS = (mapped_file, memfd, shared_anonymous, posix_shared, system_v_shared, bare_thread, in_kernel, heap)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", required=True)
    parser.add_argument("--ready", required=True)
    parser.add_argument("--go", required=True)
    options = parser.parse_args()

    def stop(name):
        with open(options.ready, "w") as ready:
            ready.write(f"{name} {os.getpid()}")
        with open(options.go) as go:
            go.read()

    with open(options.file, "wb") as file:
        file.write(b"f" * FILE)
    rss()
    stop("begin")
    truth = {}
    for step in STEPS:
        before = rss()
        step(options.file)
        after = rss()
        truth[step.__name__] = {kind: after[kind] - before[kind] for kind in after}
    print(json.dumps({"pid": os.getpid(), "truth": truth}), flush=True)
    stop("grown")
    KEEP["file"].close()
    stop("unmapped")


if __name__ == "__main__":
    main()
