"""Stops, touching, children and threads: what the cases have in common."""
import mmap
import os
import sys
import tempfile
import threading

MiB = 1 << 20
PAGE = mmap.PAGESIZE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
# include/uapi/asm-generic/mman-common.h: the module has not all of them in every version.
MADV_POPULATE_WRITE, MADV_COLLAPSE = 23, 25
MREMAP_MAYMOVE = 1
# The program that a child executes.
PROGRAM = os.path.abspath(sys.argv[0])
# Threads and a child that were there before the trace, and how to wake them.
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
    return [sys.executable, PROGRAM, "--only-stop", case]


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
