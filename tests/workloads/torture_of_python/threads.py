"""Threads and the stacks they run on, signals."""
import mmap
import os
import signal
import sys
import threading

from .common import BEFORE, PAGE, PRIVATE, MiB, Threads, in_child, reap, stop, touch


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

    def stopping(number, frame):
        kept.append(bytearray(2 * MiB))
        stop("signals", "in-handler")

    old = signal.signal(signal.SIGUSR2, stopping)
    os.kill(os.getpid(), signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, old)
    del kept[:]

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
