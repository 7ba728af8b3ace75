"""Calls of decorated functions that know their own levels and times. Under `memprof-ebpf run` only: `profile` is bare.

Usage: python marks.py CASE      (greenlets needs gevent)
Prints one JSON line a process: {"pid": …, "calls": [[function, level, begin, end, rss_begin, rss_end], …]}
where times are Unix seconds and RSS is bytes, both as the function itself saw them; a call that never ends has
null for what it did not see. Calls of a generator or coroutine are given piece by piece, as it ran.
"""
import json
import os
import signal
import sys
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE")
MiB = 1 << 20
CALLS = []


def rss():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * PAGE


def begin(function, level):
    CALLS.append([function, level, time.time(), None, rss(), None])
    return CALLS[-1]


def end(call):
    call[5] = rss()
    call[3] = time.time()


def say(**more):
    line = dict(more, pid=os.getpid(), calls=CALLS)
    os.write(1, (json.dumps(line) + "\n").encode())


@profile
def recursive(n, level=0):
    call = begin("recursive", level)
    block = touched(2)
    if n:
        recursive(n - 1, level + 1)
    del block
    end(call)


@profile
def fails(level):
    call = begin("fails", level)
    end(call)
    raise KeyError(level)


@profile
def survives(level):
    call = begin("survives", level)
    try:
        fails(level + 1)
    except KeyError:
        pass
    leaf(level + 1)
    end(call)


@profile
def leaf(level):
    call = begin("leaf", level)
    KEPT.append(touched(1))
    end(call)


@profile
def größe(level):
    call = begin("größe", level)
    end(call)


KEPT = []


def touched(mib):
    """So much memory, mapped and resident, given back when it is let go."""
    import mmap

    block = mmap.mmap(-1, mib * MiB)
    for at in range(0, mib * MiB, PAGE):
        block[at] = 1
    return block


@profile
def generator(level):
    call = begin("generator", level)
    for _ in range(2):
        KEPT.append(touched(1))
        end(call)
        yield
        call = begin("generator", level)
    end(call)


@profile
def drives(level):
    call = begin("drives", level)
    for _ in generator(level + 1):
        leaf(level + 1)
    end(call)


def coroutines():
    import asyncio

    @profile
    async def step(event, level):
        call = begin("coroutines.<locals>.step", level)
        KEPT.append(touched(1))
        end(call)
        await event.wait()
        call = begin("coroutines.<locals>.step", level)
        leaf(level + 1)
        end(call)

    async def main():
        event = asyncio.Event()
        steps = [asyncio.ensure_future(step(event, 0)) for _ in range(3)]
        await asyncio.sleep(0.05)
        event.set()
        await asyncio.gather(*steps)

    asyncio.new_event_loop().run_until_complete(main())


def threads():
    """Three threads, each inside two calls at once with the others."""
    barrier = threading.Barrier(3)

    @profile
    def outer():
        call = begin("threads.<locals>.outer", 0)
        barrier.wait()
        inner()
        end(call)

    @profile
    def inner():
        call = begin("threads.<locals>.inner", 1)
        barrier.wait()
        end(call)

    all_of_them = [threading.Thread(target=outer) for _ in range(3)]
    for thread in all_of_them:
        thread.start()
    for thread in all_of_them:
        thread.join()


def shapes():
    recursive(2)
    survives(0)
    größe(0)
    drives(0)
    coroutines()
    threads()
    say()


def greenlets():
    """Three greenlets of one thread whose calls interleave; the thread's own are around them."""
    import gevent

    @profile
    def request(number):
        call = begin("greenlets.<locals>.request", 0)
        gevent.sleep(0.01 * (3 - number))
        handler(number)
        end(call)

    @profile
    def handler(number):
        call = begin("greenlets.<locals>.handler", 1)
        gevent.sleep(0.01 * number)
        end(call)

    @profile
    def main():
        call = begin("greenlets.<locals>.main", 0)
        gevent.joinall([gevent.spawn(request, number) for number in range(3)])
        leaf(1)
        end(call)

    main()
    say()


@profile
def job(how, ready):
    call = begin("job", 0)
    KEPT.append(touched(3))
    leaf(1)
    if how == "_exit":
        say()
        os._exit(0)
    if how in ("TERM", "KILL"):
        say()
        ready.set()
        signal.pause()
    end(call)
    say()


def processes():
    """Children by fork and by spawn, of which some end by themselves, and some are ended in a call."""
    import multiprocessing

    del CALLS[:]
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        for how in ("return", "_exit", "TERM", "KILL"):
            ready = context.Event()
            child = context.Process(target=job, args=(how, ready))
            child.start()
            if how in ("TERM", "KILL"):
                ready.wait()
                os.kill(child.pid, getattr(signal, "SIG" + how))
            child.join()


def clock():
    """Fifty functions that are called once, and 100,000 calls of one."""
    from types import FunctionType

    for number in range(50):
        once = FunctionType(timed.__code__, globals(), "once%d" % number)
        once.__qualname__ = once.__name__
        once = profile(once)
        CALLS.append([once.__name__, 0, 0, 0, 0, 0])
        CALLS[-1][2:4] = once()
    for _ in range(100000):
        short()
    say()


def timed():
    first = time.time()
    return first, time.time()


@profile
def short():
    pass


if __name__ == "__main__":
    globals()[sys.argv[1]]()
