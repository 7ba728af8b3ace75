"""What Python programs do to memory, one function a way, with the stops of torture.py.

Usage: python torture_python.py --ready FIFO --go FIFO [--cases NAME,…] [--only-stop NAME]
With --only-stop it is the program that a child executes: one stop, and out.
"""
import argparse
import asyncio
import ctypes
import gc
import importlib
import mmap
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from multiprocessing import shared_memory

MiB = 1 << 20
PAGE = mmap.PAGESIZE
ARGS = None
KEEP = []


def stop(case, step):
    with open(ARGS.ready, "w") as f:
        f.write("%s %s %d" % (case, step, os.getpid()))
    with open(ARGS.go) as f:
        f.read()


def touch(area, start=0, end=None, stride=PAGE):
    for offset in range(start, len(area) if end is None else end, stride):
        area[offset] = 1


def look(area, start=0, end=None, stride=PAGE):
    return sum(area[offset] for offset in range(start, len(area) if end is None else end, stride))


def scratch_file(size):
    file = tempfile.TemporaryFile()
    file.write(b"f" * size)
    file.flush()
    return file


def reap(pid):
    if os.waitpid(pid, 0)[1]:
        sys.exit("a child failed")


def in_child(case, work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    reap(pid)


def mapped():
    area = mmap.mmap(-1, 8 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    touch(area, 0, 6 * MiB)
    stop("mapped", "touched")
    area.madvise(mmap.MADV_DONTNEED, MiB, 2 * MiB)
    stop("mapped", "part-given-back")
    area.resize(20 * MiB)
    touch(area, 8 * MiB, 14 * MiB)
    stop("mapped", "grown")
    area.resize(3 * MiB)
    stop("mapped", "shrunk")
    area.close()
    shared = mmap.mmap(-1, 4 * MiB)
    touch(shared, 0, 3 * MiB, 2 * PAGE)
    look(shared)
    stop("mapped", "shared")
    shared.close()
    stop("mapped", "closed")


def files():
    with scratch_file(4 * MiB) as file:
        reading = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        copying = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        look(reading, 0, 3 * MiB)
        look(copying, MiB, 2 * MiB, 64 * 1024)
        stop("files", "read")
        touch(copying, 0, 4 * MiB, 3 * PAGE)
        stop("files", "copied")
        os.truncate(file.fileno(), 2 * MiB)
        stop("files", "truncated")
        os.posix_fallocate(file.fileno(), 0, 4 * MiB)
        look(reading)
        stop("files", "grown-and-read")
        reading.close()
        copying.close()
    fd = os.memfd_create("torture")
    os.truncate(fd, 4 * MiB)
    area = mmap.mmap(fd, 4 * MiB)
    touch(area)
    stop("files", "memfd")
    os.truncate(fd, MiB)
    stop("files", "memfd-shrunk")
    area.close()
    os.close(fd)
    stop("files", "closed")


def heap():
    rows = [{"id": i, "name": "name %d" % i} for i in range(60000)]
    stop("heap", "rows")
    blocks = [bytes(3 * MiB) for _ in range(6)]
    stop("heap", "zeroed")
    more = bytearray(1)
    for _ in range(22):
        more += bytes(len(more))
    stop("heap", "doubled")
    del rows[::2], blocks[1:], more
    gc.collect()
    stop("heap", "half")
    del rows, blocks
    gc.collect()
    stop("heap", "gone")


def threads():
    arrived, leave = threading.Barrier(5), threading.Barrier(5)

    def work(number):
        kept = [bytes(100 + number)] * 3 + [bytearray(256 * 1024) for _ in range(8)]
        rows = [str(i) * 3 for i in range(20000)]
        arrived.wait()
        leave.wait()
        del kept, rows

    for step in ("first", "second"):
        all_of_them = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in all_of_them:
            thread.start()
        arrived.wait()
        stop("threads", step)
        leave.wait()
        for thread in all_of_them:
            thread.join()
        stop("threads", step + "-joined")


def old_thread():
    ask, done = KEEP[0]
    ask.put(8 * MiB)
    block = done.get()
    stop("old_thread", "grown")
    del block
    ask.put(0)
    done.get()
    stop("old_thread", "given-back")


def references():
    rows = [[i, str(i)] for i in range(80000)]
    gc.collect()

    def read():
        stop("references", "forked")
        look([row[0] for row in rows], 0, len(rows), 1)
        stop("references", "read")
        gc.collect()
        stop("references", "collected")

    in_child("references", read)
    gc.freeze()

    def collect():
        stop("references", "forked-frozen")
        gc.collect()
        stop("references", "collected-frozen")

    in_child("references", collect)
    gc.unfreeze()
    del rows
    stop("references", "gone")


def child_of_multiprocessing(args, case, step):
    global ARGS
    ARGS = args
    block = bytearray(2 * MiB)
    touch(block)
    stop(case, step)


def square(number):
    block = bytearray(number)
    return len(block)


def processes():
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        process = context.Process(target=child_of_multiprocessing, args=(ARGS, "processes", method))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit("a child failed")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        if pool.map(square, [MiB] * 8, chunksize=1) != [MiB] * 8:
            sys.exit("the pool is wrong")
        stop("processes", "pool")
    segment = shared_memory.SharedMemory(create=True, size=3 * MiB)
    touch(segment.buf)

    def attach():
        other = shared_memory.SharedMemory(segment.name)
        look(other.buf)
        stop("processes", "segment")
        other.close()

    in_child("processes", attach)
    segment.close()
    segment.unlink()
    stop("processes", "alone")


def programs():
    words = [sys.executable, os.path.abspath(__file__), "--ready", ARGS.ready, "--go", ARGS.go]
    subprocess.run(words + ["--only-stop", "programs"], check=True)
    stop("programs", "spawned")
    subprocess.run(words + ["--only-stop", "programs"], check=True, preexec_fn=lambda: None)
    stop("programs", "forked")
    in_child("programs", lambda: os.execv(sys.executable, words + ["--only-stop", "programs"]))
    stop("programs", "alone")


def orphan():
    gone_reader, gone_writer = os.pipe()
    stood_reader, stood_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        parent = os.getpid()
        if os.fork() == 0:
            stop("orphan", "has-a-parent")
            os.write(stood_writer, b".")
            # Nothing tells that a parent has gone; it takes no time to speak of.
            while os.getppid() == parent:
                os.sched_yield()
            block = bytearray(4 * MiB)
            touch(block)
            stop("orphan", "has-none")
            os._exit(0)
        os.read(stood_reader, 1)
        os._exit(0)
    os.close(gone_writer)
    reap(pid)
    # Everybody who could write has gone.
    os.read(gone_reader, 1)
    for fd in (gone_reader, stood_reader, stood_writer):
        os.close(fd)
    stop("orphan", "alone")


def kernel_side():
    with scratch_file(4 * MiB) as file:
        block = bytearray(4 * MiB)
        file.seek(0)
        file.readinto(memoryview(block)[: 3 * MiB])
        stop("kernel_side", "readinto")
        fresh = mmap.mmap(-1, 2 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        os.preadv(file.fileno(), [memoryview(fresh)[: MiB]], 0)
        stop("kernel_side", "preadv")
        left, right = socket.socketpair()
        sender = threading.Thread(target=left.sendall, args=(bytes(MiB),))
        sender.start()
        view = memoryview(fresh)[MiB:]
        while len(view):
            view = view[right.recv_into(view) :]
        sender.join()
        stop("kernel_side", "recv_into")
        left.close()
        right.close()
        del view
        fresh.close()
    stop("kernel_side", "closed")


def deeper(levels):
    if levels:
        return deeper(levels - 1) + 1
    stop("recursion", "deep")
    return 0


def recursion():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20000)
    threading.stack_size(64 * MiB)
    thread = threading.Thread(target=deeper, args=(5000,))
    thread.start()
    thread.join()
    threading.stack_size(0)
    sys.setrecursionlimit(limit)
    stop("recursion", "back")


def imports():
    for name in ("decimal", "sqlite3", "xml.dom.minidom", "email.message", "unittest", "http.server", "zipfile"):
        importlib.import_module(name)
    stop("imports", "imported")


def on_signal(number, frame):
    KEEP.append([bytearray(64 * 1024) for _ in range(8)])
    stop("signals", "in-handler")


def signals():
    before = signal.signal(signal.SIGUSR2, on_signal)
    os.kill(os.getpid(), signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, before)
    KEEP.pop()
    stop("signals", "after")


def coroutines():
    async def worker(number):
        rows = [str(number + i) for i in range(10000)]
        await asyncio.sleep(0)
        return len(rows)

    async def all_of_them():
        done = await asyncio.gather(*(worker(n) for n in range(8)))
        stop("coroutines", "gathered")
        return done

    if asyncio.run(all_of_them()) != [10000] * 8:
        sys.exit("a worker is wrong")
    stop("coroutines", "done")


def interpreter_pages():
    # The pages of its own code: they come back from the file, one by one.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps]
    for words in lines:
        if words[1] == "r-xp" and "python" in words[-1]:
            start, end = (int(word, 16) for word in words[0].split("-"))
            if libc.madvise(start, end - start, mmap.MADV_DONTNEED):
                sys.exit("madvise: errno %d" % ctypes.get_errno())
    stop("interpreter_pages", "given-back")


CASES = (
    mapped, files, heap, threads, old_thread, references, processes, programs, orphan, kernel_side, recursion,
    imports, signals, coroutines, interpreter_pages,
)


def old(ask, done):
    while True:
        size = ask.get()
        done.put([bytearray(size // 8) for _ in range(8)])


def main():
    global ARGS
    args = argparse.ArgumentParser()
    args.add_argument("--ready", required=True)
    args.add_argument("--go", required=True)
    args.add_argument("--cases")
    args.add_argument("--only-stop")
    ARGS = args.parse_args()
    if ARGS.only_stop:
        stop(ARGS.only_stop, "executed")
        return
    import queue

    KEEP.append((queue.Queue(), queue.Queue()))
    threading.Thread(target=old, args=KEEP[0], daemon=True).start()
    chosen = ARGS.cases.split(",") if ARGS.cases else [case.__name__ for case in CASES]
    stop("begin", "begin")
    for case in CASES:
        if case.__name__ in chosen:
            case()
    stop("end", "end")


if __name__ == "__main__":
    main()
