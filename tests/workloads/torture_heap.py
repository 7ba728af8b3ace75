"""Python's own ways to make pages come and go, with a stop after each: the allocator's, the collector's, workers'.

Usage: python torture_heap.py --ready FIFO --go FIFO. Stops and their words are those of torture.py.
Runs on CPython 3.6 and later, standard library only.
"""
import argparse
import array
import gc
import mmap
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import zlib

MiB = 1 << 20
PAGE = mmap.PAGESIZE
KEEP = {}
SHARED = []
ARGS = None


def stop(name, step):
    with open(ARGS.ready, "w") as f:
        f.write("%s %s %d" % (name, step, os.getpid()))
    with open(ARGS.go) as f:
        f.read()


def small_objects():
    KEEP["small"] = [(i, str(i)) for i in range(60000)]
    stop("small_objects", "made")
    del KEEP["small"][::2]
    stop("small_objects", "every-second-gone")
    del KEEP["small"]
    stop("small_objects", "all-gone")


def one_list():
    items = []
    for step in ("one", "two", "three", "four"):
        items.extend([None] * (MiB // 4))
        stop("one_list", step)
    items.clear()
    stop("one_list", "cleared")


def one_dict():
    table = {}
    for step in range(4):
        table.update((i, None) for i in range(step * 40000, (step + 1) * 40000))
        stop("one_dict", "grown")
    del table
    stop("one_dict", "gone")


def blocks_of_all_sizes():
    kept = []
    for size in (100 << 10, 200 << 10, 500 << 10, MiB, 3 * MiB):
        kept.append([bytes(size) for _ in range(4)])
        stop("blocks_of_all_sizes", "made")
    while kept:
        kept.pop()
        stop("blocks_of_all_sizes", "dropped")


def bytearray_resized():
    block = bytearray(b"x") * MiB
    for size in (2, 6, 3, 12, 1):
        if len(block) > size * MiB:
            del block[size * MiB:]
        else:
            block.extend(b"y" * (size * MiB - len(block)))
        stop("bytearray_resized", "%dM" % size)


def numbers():
    column = array.array("q", range(300000))
    stop("numbers", "made")
    column *= 4
    stop("numbers", "repeated")
    del column
    stop("numbers", "gone")


def cycles():
    gc.disable()
    for _ in range(40000):
        loop = []
        loop.append(loop)
    stop("cycles", "made")
    gc.collect()
    gc.enable()
    stop("cycles", "collected")


def compressed():
    packed = zlib.compress(os.urandom(MiB) * 4)
    stop("compressed", "packed")
    plain = zlib.decompress(packed)
    stop("compressed", "unpacked")
    del packed, plain
    stop("compressed", "gone")


def mapped_file():
    with tempfile.TemporaryFile() as file:
        file.write(b"f" * (4 * MiB))
        file.flush()
        area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        sum(area[0:MiB])
        stop("mapped_file", "read")
        area[MiB:2 * MiB] = b"w" * MiB
        stop("mapped_file", "written")
        area.close()
    stop("mapped_file", "closed")


def file_read():
    with tempfile.TemporaryFile() as file:
        file.write(b"f" * (6 * MiB))
        file.seek(0)
        block = file.read()
        stop("file_read", "read")
        del block
    stop("file_read", "gone")


def library_loaded():
    import decimal
    import sqlite3
    import xml.dom.minidom
    stop("library_loaded", "imported")
    base = sqlite3.connect(":memory:")
    base.execute("create table t (n integer, s text)")
    base.executemany("insert into t values (?, ?)", ((i, "s%d" % i) for i in range(20000)))
    stop("library_loaded", "filled")
    base.close()
    stop("library_loaded", "closed")
    return decimal, xml


def threads_with_heaps():
    gates = threading.Barrier(5)

    def fill():
        block = [bytes(70000) for _ in range(20)]
        gates.wait()
        gates.wait()
        return block

    threads = [threading.Thread(target=fill) for _ in range(4)]
    for thread in threads:
        thread.start()
    gates.wait()
    stop("threads_with_heaps", "filled")
    gates.wait()
    for thread in threads:
        thread.join()
    stop("threads_with_heaps", "joined")


def recursion():
    def down(levels):
        if levels:
            return down(levels - 1)
        stop("recursion", "deep")

    down(900)
    stop("recursion", "back")


def reference_counts():
    SHARED.extend([i, None] for i in range(300000, 340000))
    gc.freeze() if hasattr(gc, "freeze") else None
    child = os.fork()
    if child == 0:
        stop("reference_counts", "forked")
        for item in SHARED:
            item
        stop("reference_counts", "read")
        for item in SHARED[:10000]:
            item[1] = 1
        stop("reference_counts", "written")
        gc.collect()
        stop("reference_counts", "collected")
        os._exit(0)
    os.waitpid(child, 0)
    stop("reference_counts", "alone")


def worker(queue):
    grown = [str(i) for i in range(30000)]
    stop("processes", "worker")
    queue.put(len(grown))


def processes():
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    for _ in range(3):
        child = context.Process(target=worker, args=(queue,))
        child.start()
        queue.get()
        child.join()
        stop("processes", "joined")


def program_run():
    code = "x = bytes(3 << 20)\nwith open(%r, 'w') as f: f.write('program_run executed %%d' %% __import__('os').getpid())" \
        "\nopen(%r).read()" % (ARGS.ready, ARGS.go)
    subprocess.check_call([sys.executable, "-S", "-c", code])
    stop("program_run", "ended")


CASES = (
    small_objects, one_list, one_dict, blocks_of_all_sizes, bytearray_resized, numbers, cycles, compressed,
    mapped_file, file_read, library_loaded, threads_with_heaps, recursion, reference_counts, processes, program_run,
)


def main():
    global ARGS
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready", required=True)
    parser.add_argument("--go", required=True)
    ARGS = parser.parse_args()
    stop("begin", "begin")
    for case in CASES:
        case()
    stop("end", "end")


if __name__ == "__main__":
    main()
