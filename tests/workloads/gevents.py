"""Touches pages in greenlets of gevent: spawned, in a pool, called by the hub, in native threads,
and in what `threading` gives once it is patched.

Usage: python gevents.py. Prints `ready`, waits for a line, does it, and says by which chains.
"""
import sys

import gevent.monkey

gevent.monkey.patch_all()

import threading

import chains
import gevent
import gevent.pool
import greenlet
from chains import touch


def handle(depth):
    if depth:
        gevent.sleep(0)
        return handle(depth - 1)
    touch()


def spawned():
    greenlets = [gevent.spawn(handle, depth) for depth in (1, 5, 5, 30)]
    touch()
    gevent.joinall(greenlets, raise_error=True)


def pool():
    list(gevent.pool.Pool(3).imap_unordered(in_pool, range(6)))


def in_pool(number):
    gevent.sleep(0.001 * number)
    touch()


def by_the_hub():
    done = gevent.event.Event()

    def callback():
        touch()
        done.set()

    gevent.get_hub().loop.run_callback(callback)
    done.wait()


def in_native_threads():
    threads = gevent.get_hub().threadpool
    for _ in range(2):
        threads.spawn(touch).get()


def in_patched_threads():
    threads = [threading.Thread(target=handle, args=(2,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    chains.ASK["is_greenlet"] = lambda: greenlet.getcurrent().parent is not None
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    gevent.os.tp_read(0, 1)
    touch()
    for part in (spawned, pool, by_the_hub, in_native_threads, in_patched_threads):
        part()
    touch()
    chains.say()


if __name__ == "__main__":
    main()
