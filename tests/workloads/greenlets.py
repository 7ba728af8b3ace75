"""Touches pages in greenlets and beside them: in a thread's main one, in nested ones, in threads.

Usage: python greenlets.py [imported-late]. Prints `ready`, waits for a line, does it, and says by
which chains. With `imported-late` it imports greenlet only after a first line.
"""
import _thread
import sys
import threading

import chains
from chains import touch


def wait(word):
    print(word, flush=True)
    sys.stdin.readline()


def alone():
    touch()


def deep(depth):
    # Beyond one chunk of the interpreter's stack of frames, which has 16 KiB.
    if depth:
        deep(depth - 1)
    else:
        touch()


def outer(greenlet):
    touch()
    inner = greenlet(within)
    inner.switch(greenlet.getcurrent())
    touch()
    inner.switch()
    deep(200)


def within(back):
    deep(3)
    back.switch()
    touch()
    try:
        back.throw(KeyError("from within"))
    finally:
        touch()


def generating():
    for step in range(3):
        touch()
        yield step


def in_generator(main):
    for step in generating():
        main.switch(step)
    sorted(range(3), key=in_callback)


def in_callback(number):
    if number == 1:
        touch()
    return number


def own_run(greenlet):
    class Own(greenlet):
        def run(self):
            deep(2)

    return Own()


def in_thread(greenlet):
    touch()
    several(greenlet)
    touch()


def both(done):
    """Is what a thread begins with, and what a greenlet begins with: the same chain of frames."""
    touch()
    done()


def several(greenlet):
    main = greenlet.getcurrent()
    nested = greenlet(outer)
    try:
        nested.switch(greenlet)
    except KeyError:
        touch()
    ticking = greenlet(in_generator)
    while not ticking.dead:
        ticking.switch(main)
        touch()
    own_run(greenlet).switch()
    greenlet(both).switch(bool)
    with_lock(_thread.start_new_thread)
    for _ in range(50):
        greenlet(alone).switch()


def with_lock(start):
    lock = _thread.allocate_lock()
    lock.acquire()
    start(both, (lock.release,))
    lock.acquire()


def main():
    if sys.argv[1:] == ["imported-late"]:
        wait("not imported")
        alone()
    from greenlet import getcurrent, greenlet

    chains.ASK["is_greenlet"] = lambda: getcurrent().parent is not None
    wait("ready")
    alone()
    several(greenlet)
    threads = [threading.Thread(target=in_thread, args=(greenlet,)) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    alone()
    chains.say()


if __name__ == "__main__":
    main()
