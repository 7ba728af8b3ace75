"""Every way in which Python makes a process's pages come and go, with stops at which everything stands still.

Usage: python torture_python.py --ready FIFO --go FIFO [--scratch DIR] [--cases NAME,…] [--only-stop NAME]
The protocol of torture.py: at each stop it writes `CASE STEP PID` to the first FIFO, from whichever process stands
there, and waits on the second; the first stop is `begin`, the last `end`. A step `unseen…` comes after children that had no
stop of their own. Prints {"pid": …, "cases": {name: 0}}, with
-errno for a case that this machine does not allow. With --only-stop it is the program that a child executes.
"""
import argparse
import asyncio
import ctypes
import errno
import fcntl
import gc
import json
import mmap
import multiprocessing
import multiprocessing.shared_memory
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading

MiB = 1 << 20
PAGE = mmap.PAGESIZE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
# include/uapi/asm-generic/mman-common.h: the module has not all of them in every version.
MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE = 21, 22, 23, 25
MREMAP_MAYMOVE = 1
BEFORE = {}


def stop(case, step):
    with open(os.environ["TORTURE_READY"], "w") as f:
        f.write("%s %s %d" % (case, step, os.getpid()))
    with open(os.environ["TORTURE_GO"]) as f:
        f.read()


def touch(area, begin=0, end=None, step=PAGE):
    for offset in range(begin, len(area) if end is None else end, step):
        area[offset] = 1


def read(area, begin=0, end=None):
    return sum(area[offset] for offset in range(begin, len(area) if end is None else end, PAGE))


def temporary(size):
    file = tempfile.TemporaryFile()
    file.write(os.urandom(size))
    file.flush()
    return file


def in_child(body):
    """A child by os.fork that runs body and goes without Python's shutdown; its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return pid


def reap(pid):
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("child %d failed" % pid)


def itself(case):
    return [sys.executable, os.path.abspath(__file__), "--only-stop", case]


class Threads:
    """Threads that do one thing each at the same time, and then wait."""

    def __init__(self, count, body):
        self.barrier = threading.Barrier(count + 1)
        self.release = threading.Event()
        self.all = [threading.Thread(target=self.run, args=(body, n)) for n in range(count)]
        for thread in self.all:
            thread.start()
        self.barrier.wait()  # begin
        self.barrier.wait()  # done

    def run(self, body, number):
        self.barrier.wait()
        kept = body(number)
        self.barrier.wait()
        self.release.wait()
        del kept

    def join(self):
        self.release.set()
        for thread in self.all:
            thread.join()


# --- the mmap module

def mmap_anonymous():
    area = mmap.mmap(-1, 8 * MiB, PRIVATE)
    touch(area, 0, 2 * MiB)
    read(area, 2 * MiB, 4 * MiB)
    stop("mmap_anonymous", "touched-and-read")
    touch(area, 8 * MiB - PAGE, 8 * MiB)
    area[3 * MiB:4 * MiB] = bytes(MiB)
    stop("mmap_anonymous", "zero-pages-written")
    area.resize(16 * MiB)
    touch(area, 8 * MiB, 16 * MiB, 3 * PAGE)
    stop("mmap_anonymous", "larger")
    area.resize(MiB)
    stop("mmap_anonymous", "smaller")
    area.close()
    stop("mmap_anonymous", "closed")


def mmap_advised():
    area = mmap.mmap(-1, 8 * MiB, PRIVATE)
    touch(area)
    area.madvise(mmap.MADV_DONTNEED, MiB, 2 * MiB)
    stop("mmap_advised", "not-needed")
    area.madvise(MADV_POPULATE_WRITE, 0, 2 * MiB)
    stop("mmap_advised", "populated")
    area.madvise(mmap.MADV_FREE, 4 * MiB, MiB)
    stop("mmap_advised", "free")
    touch(area, 4 * MiB, 5 * MiB)
    area.madvise(mmap.MADV_HUGEPAGE)
    area.madvise(mmap.MADV_DONTNEED)
    touch(area)
    stop("mmap_advised", "huge")
    area.madvise(mmap.MADV_DONTNEED, 3 * MiB + PAGE, 2 * MiB)
    stop("mmap_advised", "huge-in-part")
    try:
        area.madvise(MADV_COLLAPSE)
    except OSError:
        pass  # not everywhere; whatever it did must be seen
    stop("mmap_advised", "collapsed")
    area.close()
    stop("mmap_advised", "closed")


def mmap_shared():
    area = mmap.mmap(-1, 8 * MiB)
    touch(area, 0, 4 * MiB)
    stop("mmap_shared", "touched")

    def child():
        read(area, 0, 2 * MiB)
        touch(area, 4 * MiB, 6 * MiB)
        stop("mmap_shared", "child-touched")

    reap(in_child(child))
    read(area, 4 * MiB, 6 * MiB)
    stop("mmap_shared", "read-what-the-child-made")
    area.madvise(mmap.MADV_REMOVE, 0, MiB)
    stop("mmap_shared", "removed")
    area.close()
    stop("mmap_shared", "closed")


def mmap_of_file():
    with temporary(4 * MiB) as file:
        area = mmap.mmap(file.fileno(), 0)
        read(area, 0, MiB)
        stop("mmap_of_file", "read")
        touch(area, MiB, 2 * MiB, 5 * PAGE)
        area.flush()
        stop("mmap_of_file", "written")
        area.resize(8 * MiB)
        touch(area, 7 * MiB, 8 * MiB)
        stop("mmap_of_file", "larger")
        area.resize(2 * MiB)
        stop("mmap_of_file", "smaller")
        area.close()
        stop("mmap_of_file", "closed")


def mmap_copied():
    with temporary(4 * MiB) as file:
        area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        read(area, 0, 2 * MiB)
        stop("mmap_copied", "read")
        touch(area, MiB, 3 * MiB)
        stop("mmap_copied", "written")

        def child():
            touch(area, 0, 4 * MiB)
            stop("mmap_copied", "child-wrote")

        reap(in_child(child))
        area.close()
        stop("mmap_copied", "closed")


def file_cut_and_grown():
    with temporary(4 * MiB) as file:
        shared = mmap.mmap(file.fileno(), 0)
        private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        touch(shared)
        touch(private, 0, 4 * MiB, 2 * PAGE)
        read(private)
        stop("file_cut_and_grown", "touched")
        os.truncate(file.fileno(), MiB)
        stop("file_cut_and_grown", "cut")
        os.posix_fallocate(file.fileno(), 0, 4 * MiB)
        stop("file_cut_and_grown", "allocated")
        read(shared)
        touch(private)
        stop("file_cut_and_grown", "read")

        def child():
            os.ftruncate(file.fileno(), 2 * MiB)
            stop("file_cut_and_grown", "cut-by-child")

        reap(in_child(child))
        # Its tail is beyond the end of the file, and stays mapped.
        shared.close()
        private.close()
        stop("file_cut_and_grown", "closed")


def memfd():
    fd = os.memfd_create("torture")
    os.ftruncate(fd, 4 * MiB)
    area = mmap.mmap(fd, 4 * MiB)
    os.pwrite(fd, b"w" * MiB, MiB)
    stop("memfd", "written-by-call")
    read(area)
    stop("memfd", "read")
    os.ftruncate(fd, MiB)
    stop("memfd", "cut")
    os.posix_fallocate(fd, 0, 4 * MiB)
    touch(area, 2 * MiB, 4 * MiB)
    stop("memfd", "grown")
    area.close()
    os.close(fd)
    stop("memfd", "closed")


# --- objects

def bytearray_grown():
    data = bytearray()
    for step in range(64):
        data.extend(b"x" * (256 << 10))
    stop("bytearray_grown", "16-mib")
    del data[MiB:]
    stop("bytearray_grown", "cut")
    del data[:]
    stop("bytearray_grown", "empty")
    many = [bytearray(n * 1000) for n in range(200)]
    stop("bytearray_grown", "many")
    del many[::2]
    stop("bytearray_grown", "every-second")
    del many
    stop("bytearray_grown", "gone")


def containers():
    rows = [[n, str(n), float(n)] for n in range(60_000)]
    stop("containers", "lists")
    table = {str(n): (n, n + 1) for n in range(60_000)}
    stop("containers", "dict")
    random.Random(1).shuffle(rows)
    del rows[::2]
    stop("containers", "half")
    for key in list(table)[::3]:
        del table[key]
    stop("containers", "two-thirds")
    rows.clear()
    table.clear()
    gc.collect()
    stop("containers", "gone")


class Node:
    def __init__(self, other):
        self.other, self.load = other, bytearray(20_000)


def cycles():
    gc.disable()
    for _ in range(300):
        node = Node(None)
        node.other = Node(node)
    node = None
    stop("cycles", "uncollected")
    gc.collect()
    stop("cycles", "collected")
    gc.enable()
    for _ in range(3000):
        node = Node(None)
        node.other = Node(node)
    node = None
    gc.collect()
    stop("cycles", "collected-by-itself")


def text():
    words = ["word %d" % n for n in range(100_000)]
    joined = " ".join(words * 5)
    stop("text", "joined")
    wide = joined + "\N{GRINNING FACE}"
    stop("text", "wide")
    data = wide.encode()
    parts = data.split(b" ")
    stop("text", "split")
    del words, joined, wide, data, parts
    stop("text", "gone")


def libraries():
    import bz2
    import lzma
    import sqlite3
    import zlib

    stop("libraries", "imported")
    data = os.urandom(MiB) * 2
    packed = [zlib.compress(data), bz2.compress(data), lzma.compress(data)]
    stop("libraries", "compressed")
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT)")
    base.executemany("INSERT INTO rows VALUES (?, ?)", ((n, "row %d" % n * 5) for n in range(40_000)))
    stop("libraries", "rows")
    base.close()
    del packed, data
    ctypes.CDLL(None).malloc_trim(0)
    stop("libraries", "trimmed")


IMPORTED = (
    "xml.dom.minidom xml.etree.ElementTree email.message http.client http.server logging.config unittest.mock "
    "decimal fractions statistics ssl urllib.request ftplib imaplib concurrent.futures pydoc difflib doctest "
    "csv curses zipfile tarfile plistlib pickletools ast dis inspect tokenize uuid ipaddress turtledemo"
)


def imports():
    for nth, name in enumerate(IMPORTED.split()):
        try:
            __import__(name)
        except ImportError:
            pass  # not in every build
        if nth % 8 == 7:
            stop("imports", "%d-modules" % (nth + 1))
    stop("imports", "all")


# --- threads

def threads_grow():
    def body(number):
        kept = [bytearray(3 * MiB), [str(n) for n in range(20_000)]]
        area = mmap.mmap(-1, 4 * MiB, PRIVATE)
        touch(area)
        area.madvise(mmap.MADV_DONTNEED, 0, MiB)
        for _ in range(20):
            bytearray(2 * MiB)
        return kept, area

    threads = Threads(6, body)
    stop("threads_grow", "grown")
    threads.join()
    stop("threads_grow", "joined")


def threads_come_and_go():
    def body():
        area = bytearray(MiB)
        local = [bytearray(100) for _ in range(1000)]
        return area, local

    for step in range(3):
        for _ in range(10):
            some = [threading.Thread(target=body) for _ in range(8)]
            for thread in some:
                thread.start()
            for thread in some:
                thread.join()
        stop("threads_come_and_go", "round-%d" % step)


def threads_on_one_mapping():
    area = mmap.mmap(-1, 16 * MiB, PRIVATE)

    def body(number):
        # Whoever is first makes a page resident; half of them are given back by somebody.
        for turn in range(3):
            touch(area, 0, 16 * MiB, (number + 1) * PAGE)
            area.madvise(mmap.MADV_DONTNEED, (4 * turn + number) % 16 * MiB, MiB)

    threads = Threads(4, body)
    stop("threads_on_one_mapping", "touched")
    threads.join()
    area.close()
    stop("threads_on_one_mapping", "closed")


def threads_from_before():
    """Threads that were in the middle of their life when the trace began."""
    BEFORE["go"].set()
    for ready in BEFORE["ready"]:
        ready.wait()
    stop("threads_from_before", "grown")
    BEFORE["end"].set()
    for thread in BEFORE["threads"]:
        thread.join()
    stop("threads_from_before", "joined")


def begin_threads():
    BEFORE.update(go=threading.Event(), end=threading.Event(), ready=[threading.Event() for _ in range(3)])

    def body(number):
        before = bytearray(2 * MiB)
        BEFORE["go"].wait()
        kept = [bytearray(2 * MiB), [str(n) for n in range(10_000)]]
        del before
        BEFORE["ready"][number].set()
        BEFORE["end"].wait()
        del kept

    BEFORE["threads"] = [threading.Thread(target=body, args=(n,)) for n in range(3)]
    for thread in BEFORE["threads"]:
        thread.start()


def child_from_before():
    """A child that was there when the trace began."""
    os.write(BEFORE["to_child"], b"g")
    reap(BEFORE["child"])
    os.close(BEFORE["to_child"])
    stop("child_from_before", "reaped")


def begin_child():
    reading, BEFORE["to_child"] = os.pipe()

    def body():
        os.close(BEFORE["to_child"])
        os.read(reading, 1)
        data = bytearray(3 * MiB)
        stop("child_from_before", "child-grew")
        del data
        pid = in_child(lambda: stop("child_from_before", "grandchild"))
        reap(pid)

    BEFORE["child"] = in_child(body)
    os.close(reading)


def forked_in_thread():
    def body(number):
        def child():
            data = bytearray(2 * MiB)
            threading.Thread(target=lambda: touch(mmap.mmap(-1, MiB, PRIVATE))).start()
            stop("forked_in_thread", "child-of-%d" % number)
            del data

        with lock:
            reap(in_child(child))

    lock = threading.Lock()
    Threads(3, body).join()
    stop("forked_in_thread", "joined")


# --- stacks and signals

def nested(depth):
    return 0 if depth == 0 else 1 + max((depth,), key=lambda _: nested(depth - 1))


def plain(depth):
    return 0 if depth == 0 else 1 + plain(depth - 1)


def deep_recursion():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    nested(400)
    stop("deep_recursion", "nested")
    plain(9000)
    stop("deep_recursion", "plain")

    def at_the_bottom(depth):
        if depth == 0:
            stop("deep_recursion", "in-the-deep")
            return 0
        return 1 + at_the_bottom(depth - 1)

    at_the_bottom(3000)
    threading.stack_size(64 * MiB)
    threads = Threads(2, lambda number: (nested(400), plain(9000)))
    stop("deep_recursion", "in-threads")
    threads.join()
    threading.stack_size(0)
    sys.setrecursionlimit(limit)
    stop("deep_recursion", "returned")


def signals():
    kept = []

    def handler(number, frame):
        kept.append(bytearray(256 << 10))

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    while len(kept) < 40:
        bytearray(3 * MiB)
    signal.setitimer(signal.ITIMER_REAL, 0)
    stop("signals", "handled")
    signal.signal(signal.SIGALRM, old)
    del kept[:]
    stop("signals", "gone")


# --- the kernel's side of a call

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


# --- through ctypes

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


# --- processes

def fork_refcounts():
    rows = [str(n) for n in range(80_000)]
    gc.collect()

    def child():
        stop("fork_refcounts", "forked")
        for row in rows:
            row.isdigit()
        stop("fork_refcounts", "child-read")
        gc.collect()
        stop("fork_refcounts", "child-collected")
        more = [str(n) for n in range(40_000)]
        stop("fork_refcounts", "child-grew")
        del more, rows[:]
        stop("fork_refcounts", "child-forgot")

    reap(in_child(child))
    for row in rows:
        row.isdigit()
    stop("fork_refcounts", "parent-read")
    rows.clear()
    stop("fork_refcounts", "gone")


def fork_frozen():
    rows = [[n] for n in range(80_000)]
    gc.collect()
    gc.freeze()

    def child():
        gc.collect()
        stop("fork_frozen", "child-collected")
        rows.reverse()
        stop("fork_frozen", "child-turned")

    first = in_child(child)
    reap(first)
    gc.unfreeze()
    gc.collect()
    stop("fork_frozen", "parent-collected")


def fork_of_fork():
    kept = bytearray(4 * MiB)

    def grandchild():
        touch(kept, 0, MiB)
        stop("fork_of_fork", "grandchild")

    def child():
        touch(kept, 0, 2 * MiB)
        pid = in_child(grandchild)
        touch(kept, 2 * MiB, 3 * MiB)
        reap(pid)
        stop("fork_of_fork", "child")

    reap(in_child(child))
    touch(kept)
    stop("fork_of_fork", "alone")


def orphan():
    """A grandchild that outlives its parent."""
    reading, writing = os.pipe()

    def grandchild():
        os.close(reading)
        data = bytearray(2 * MiB)
        # The parent is reaped by now, or soon: whoever asks for it finds another one.
        while os.getppid() == parent[0]:
            os.sched_yield()
        stop("orphan", "parent-gone")
        data.extend(bytes(2 * MiB))
        stop("orphan", "orphan-grew")
        reap(in_child(lambda: stop("orphan", "child-of-orphan")))
        os.write(writing, b"d")

    parent = []

    def child():
        parent.append(os.getpid())
        in_child(grandchild)

    pid = in_child(child)
    os.close(writing)
    reap(pid)
    os.read(reading, 1)
    # Its end of the pipe is closed when it has gone.
    os.read(reading, 1)
    os.close(reading)
    stop("orphan", "gone")


def children_in_a_row():
    kept = []
    for number in range(60):
        kept.append(bytearray(100_000))
        reap(in_child(lambda: kept.append(bytearray(MiB))))
    stop("children_in_a_row", "unseen-60")


LAST_PID = "/proc/sys/kernel/ns_last_pid"


def fork_as(pid, body):
    """A child with this pid. Others fork too: each try that gets another pid goes at once."""
    reading, writing = os.pipe()
    with open(LAST_PID, "r+b", 0) as last:
        for _ in range(1000):
            fcntl.flock(last, fcntl.LOCK_EX)
            os.pwrite(last.fileno(), b"%d" % (pid - 1), 0)
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    if os.getpid() == pid:
                        body()
                    status = 0
                finally:
                    os._exit(status)
            fcntl.flock(last, fcntl.LOCK_UN)
            reap(child)
            if child == pid:
                return
    raise OSError(errno.EAGAIN, "pid %d is not to be had" % pid)


def pid_reused():
    """Children that get, one after the other, the pid that a traced one just had."""
    data = bytearray(2 * MiB)

    def first():
        more = bytearray(MiB)
        touch(data, 0, MiB)
        stop("pid_reused", "first")
        del more

    pid = in_child(first)
    reap(pid)
    stop("pid_reused", "first-gone")

    def second():
        more = [bytearray(2 * MiB)]
        stop("pid_reused", "second")
        del more[:]
        stop("pid_reused", "second-forgot")

    fork_as(pid, second)
    stop("pid_reused", "second-gone")
    fork_as(pid, lambda: os.execv(sys.executable, itself("pid_reused")))
    stop("pid_reused", "third-gone")

    def at_once():
        return None

    for _ in range(3):
        fork_as(pid, at_once)
    fork_as(pid, lambda: stop("pid_reused", "last"))
    stop("pid_reused", "last-gone")


def executed():
    def child():
        data = bytearray(2 * MiB)
        stop("executed", "before")
        os.execv(sys.executable, itself("executed"))

    reap(in_child(child))
    stop("executed", "reaped")
    for case in ("from-thread",):
        def in_thread():
            thread = threading.Thread(target=os.execv, args=(sys.executable, itself("executed")))
            thread.start()
            thread.join()

        reap(in_child(in_thread))
    stop("executed", "reaped-again")


def subprocesses():
    subprocess.run(itself("subprocesses"), check=True)
    stop("subprocesses", "vfork")
    subprocess.run(itself("subprocesses"), check=True, close_fds=False)
    stop("subprocesses", "posix-spawn")
    subprocess.run(itself("subprocesses"), check=True, preexec_fn=lambda: bytearray(MiB))
    stop("subprocesses", "fork")
    reap(os.posix_spawn(sys.executable, itself("subprocesses"), os.environ))
    out = subprocess.run(["/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"], check=True, capture_output=True)
    stop("subprocesses", "piped-%d" % len(out.stdout))
    with subprocess.Popen(["/bin/sleep", "1000"]) as sleeper:
        stop("subprocesses", "not-python")
        sleeper.kill()
    stop("subprocesses", "killed")


# --- multiprocessing

def worker_grows(case, step):
    data = bytearray(2 * MiB)
    stop(case, step)
    return len(data)


def mp_process(case, method):
    context = multiprocessing.get_context(method)
    process = context.Process(target=worker_grows, args=(case, "worker"))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("a worker failed")
    stop(case, "joined")


def mp_fork():
    mp_process("mp_fork", "fork")


def mp_spawn():
    mp_process("mp_spawn", "spawn")


def mp_forkserver():
    mp_process("mp_forkserver", "forkserver")
    # It waits for more until its creator's end of a pipe is closed.
    from multiprocessing import forkserver
    forkserver._forkserver._stop()
    stop("mp_forkserver", "stopped")


def mp_pool():
    with multiprocessing.get_context("fork").Pool(3) as pool:
        pool.map(bytearray, [MiB] * 12, chunksize=1)
        stop("mp_pool", "mapped")
        pool.apply(worker_grows, ("mp_pool", "in-worker"))
        kept = pool.map(bytes, [MiB] * 6)
        stop("mp_pool", "kept")
    del kept
    pool.join()
    stop("mp_pool", "ended")


def mp_shared_memory():
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4 * MiB)
    touch(memory.buf, 0, 2 * MiB)
    stop("mp_shared_memory", "written")

    def child():
        same = multiprocessing.shared_memory.SharedMemory(name=memory.name)
        read(same.buf)
        touch(same.buf, 2 * MiB, 3 * MiB)
        stop("mp_shared_memory", "child-wrote")
        same.close()

    reap(in_child(child))
    read(memory.buf)
    stop("mp_shared_memory", "read")
    memory.close()
    stop("mp_shared_memory", "closed")
    memory.unlink()


# --- asyncio

async def coroutine(number):
    data = bytearray(200_000)
    await asyncio.sleep(0)
    data.extend(bytes(100_000))
    await asyncio.sleep(0.001 * (number % 3))
    return data


async def many_tasks():
    kept = await asyncio.gather(*(coroutine(n) for n in range(100)))
    stop("event_loop", "gathered")
    loop = asyncio.get_running_loop()
    more = await asyncio.gather(*(loop.run_in_executor(None, bytearray, MiB) for _ in range(8)))
    stop("event_loop", "from-executor")
    process = await asyncio.create_subprocess_exec(*itself("event_loop"))
    await process.wait()
    stop("event_loop", "subprocess")
    return len(kept) + len(more)


def event_loop():
    asyncio.run(many_tasks())
    stop("event_loop", "closed")


CASES = (
    threads_from_before, child_from_before,
    mmap_anonymous, mmap_advised, mmap_shared, mmap_of_file, mmap_copied, file_cut_and_grown, memfd,
    bytearray_grown, containers, cycles, text, libraries, imports,
    threads_grow, threads_come_and_go, threads_on_one_mapping, forked_in_thread,
    deep_recursion, signals, kernel_side, sockets, libc_heap, libc_mremap,
    fork_refcounts, fork_frozen, fork_of_fork, orphan, children_in_a_row, pid_reused, executed, subprocesses,
    mp_fork, mp_spawn, mp_forkserver, mp_pool, mp_shared_memory, event_loop,
)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--ready")
    args.add_argument("--go")
    args.add_argument("--scratch")
    args.add_argument("--cases")
    args.add_argument("--only-stop")
    args = args.parse_args()
    if args.only_stop:
        stop(args.only_stop, "executed")
        return
    os.environ.update(TORTURE_READY=args.ready, TORTURE_GO=args.go)
    if args.scratch:
        tempfile.tempdir = args.scratch
    chosen = args.cases.split(",") if args.cases else [case.__name__ for case in CASES]
    if "child_from_before" in chosen:
        begin_child()
    if "threads_from_before" in chosen:
        begin_threads()
    done = {}
    stop("begin", "begin")
    for case in CASES:
        if case.__name__ in chosen:
            done[case.__name__] = 0
            try:
                case()
            except OSError as error:
                done[case.__name__] = -(error.errno or errno.EIO)
                sys.stderr.write("%s: %s\n" % (case.__name__, error))
    stop("end", "end")
    print(json.dumps({"pid": os.getpid(), "cases": done}))


if __name__ == "__main__":
    main()
