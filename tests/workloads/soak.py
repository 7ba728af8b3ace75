"""Calls, raises, yields, switches greenlets and makes code anew at full speed, in several threads,
and touches a page at each step by a chain of callers that is known.

Usage: python soak.py THREADS ROUNDS. Prints `ready` and waits for a line. Out: one line of JSON: how
many rounds there were in all threads together, and the chains, with the pages that all threads
together touched by each. In the first round of each thread the interpreter itself is asked for
them, by sys._getframe(); the others do the same without. `made_N` stands for functions that were
made anew, in each round under another number: its pages are those of one number.
"""
import contextlib
import functools
import gc
import itertools
import json
import mmap
import os
import re
import sys
import threading

try:
    import greenlet
except ImportError:
    greenlet = None

PAGE = mmap.PAGESIZE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
NUMBERS = itertools.count()


class Pages:
    """Fresh ones, for one thread."""

    def __init__(self, size):
        self.area = mmap.mmap(-1, size, PRIVATE)
        # One fault a page.
        if hasattr(self.area, "madvise"):
            self.area.madvise(mmap.MADV_NOHUGEPAGE)
        self.at = 0
        self.told = None


def touch(pages):
    at = pages.at
    pages.at = at + PAGE
    if pages.told is not None:
        tell(pages.told, sys._getframe())
    pages.area[at] = 1


def tell(told, frame):
    # touch() calls this on the line before the one by which it touches.
    line = frame.f_lineno + 1
    chain = []
    while frame is not None:
        code = frame.f_code
        chain.append("%s (%s:%d)" % (getattr(code, "co_qualname", code.co_name), code.co_filename, line))
        frame = frame.f_back
        line = frame.f_lineno if frame is not None else 0
    if greenlet is not None and greenlet.getcurrent().parent is not None:
        chain.append("[greenlet]")
    chain.reverse()
    chain = ";".join(chain)
    told[chain] = told.get(chain, 0) + 1


# Calls of every kind: positional, keyword, spread, bound, by a class, by C, in a comprehension.

def calls(pages):
    down(pages, 7)
    spread(*(pages,), **{"depth": 2})
    thing = Thing(pages)
    thing.method()
    thing.prop
    thing.missing
    thing[0]
    thing + thing
    Derived(pages).method()
    functools.partial(touch, pages)()
    functools.reduce(lambda _, page: touch(page), [pages, pages])
    sorted([2, 1], key=lambda _: touch(pages) or 0)
    [touch(pages) for _ in range(2)]
    list(map(touch, [pages]))
    {touch(one) for one in (pages,)}
    wrapped(pages)


def down(pages, depth):
    if depth:
        touch(pages)
        return down(pages, depth - 1)
    touch(pages)


def spread(pages, *rest, depth=0, **more):
    touch(pages)
    if depth:
        spread(pages, *rest, depth=depth - 1, **more)


class Thing:
    def __init__(self, pages):
        self.pages = pages
        touch(pages)

    def method(self):
        touch(self.pages)

    @property
    def prop(self):
        touch(self.pages)

    def __getattr__(self, name):
        touch(self.pages)

    def __getitem__(self, at):
        touch(self.pages)

    def __add__(self, other):
        touch(self.pages)
        return other

    @staticmethod
    def static(pages):
        touch(pages)


class Derived(Thing):
    def __init__(self, pages):
        super().__init__(pages)
        touch(pages)

    def method(self):
        super().method()
        self.static(self.pages)


def wrap(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        touch(*arguments)
        return function(*arguments)

    return wrapper


@wrap
def wrapped(pages):
    touch(pages)


# Exceptions, through frames that catch, finish and hold them.

def raises(pages):
    held = None
    for depth in range(4):
        try:
            raising(pages, depth)
        except KeyError as error:
            touch(pages)
            held = error
        finally:
            touch(pages)
    with managed(pages):
        touch(pages)
    with contextlib.suppress(KeyError), managed(pages):
        raising(pages, 2)
    with Closing(pages):
        touch(pages)
    return held is None


def raising(pages, depth):
    try:
        if depth == 0:
            touch(pages)
            raise KeyError(depth)
        raising(pages, depth - 1)
    except ValueError:
        pass
    finally:
        touch(pages)


@contextlib.contextmanager
def managed(pages):
    touch(pages)
    try:
        yield
    finally:
        touch(pages)


class Closing:
    def __init__(self, pages):
        self.pages = pages

    def __enter__(self):
        touch(self.pages)

    def __exit__(self, *error):
        touch(self.pages)


# Generators and coroutines, resumed from here and there.

def yields(pages):
    for _ in counting(pages, 3):
        touch(pages)
    ticking = delegating(pages)
    next(ticking)
    elsewhere(ticking)
    ticking.close()
    thrown = counting(pages, 3)
    next(thrown)
    try:
        thrown.throw(KeyError())
    except KeyError:
        touch(pages)
    running = outer_task(pages)
    try:
        while True:
            running.send(None)
    except StopIteration:
        touch(pages)
    sum(touch(pages) or 1 for _ in range(2))


def counting(pages, count):
    try:
        for number in range(count):
            touch(pages)
            yield number
    finally:
        touch(pages)


def delegating(pages):
    touch(pages)
    yield from counting(pages, 2)
    yield from counting(pages, 2)


def elsewhere(generator):
    next(generator)
    next(generator)


class Pause:
    def __init__(self, pages):
        touch(pages)
        self.pages = pages

    def __await__(self):
        touch(self.pages)
        yield


async def outer_task(pages):
    touch(pages)
    async for _ in ticks(pages):
        await inner_task(pages)


async def ticks(pages):
    for tick in range(2):
        await Pause(pages)
        touch(pages)
        yield tick


async def inner_task(pages):
    await Pause(pages)
    touch(pages)


# Greenlets that switch to and fro, one inside another.

def switches(pages):
    if greenlet is None:
        return
    main = greenlet.getcurrent()
    players = [greenlet.greenlet(player) for _ in range(2)]
    players[0].switch(pages, main, players[1])
    touch(pages)
    for one in players:
        while not one.dead:
            one.switch(pages, main, main)
    nested = greenlet.greenlet(nesting)
    nested.switch(pages)
    touch(pages)
    nested.switch()


def player(pages, main, other):
    touch(pages)
    for _ in range(2):
        other.switch(pages, main, main)
        down(pages, 1)
    main.switch()
    touch(pages)


def nesting(pages):
    inner = greenlet.greenlet(touch)
    inner.switch(pages)
    back = greenlet.getcurrent().parent
    try:
        back.switch()
        raising(pages, 1)
    except KeyError:
        touch(pages)


# Code that is made anew, each time at the address of what was there before.

def makes(pages):
    by_exec(pages)
    by_file(pages)
    by_name(pages)
    by_plugin(pages)
    closures(pages)


def by_exec(pages):
    scope = {"touch": touch}
    exec("def made_%d(pages):\n touch(pages)\n touch(pages)\n touch(pages)" % next(NUMBERS), scope)
    (made,) = [value for name, value in scope.items() if name.startswith("made_")]
    made(pages)


def by_file(pages):
    # As a plugin that is loaded and dropped: the module's own code calls.
    text = "def made_%d(pages):\n touch(pages)\n touch(pages)\n touch(pages)\nmade_%d(pages)"
    number = next(NUMBERS)
    exec(compile(text % (number, number), "/plugins/plugin.py", "exec"), {"touch": touch, "pages": pages})


def by_name(pages):
    # As a template engine: the function outlives its module, is called by us, and is dropped.
    number = next(NUMBERS)
    text = "def made_%d(pages):\n touch(pages)\n touch(pages)\n touch(pages)" % number
    scope = {"touch": touch}
    exec(compile(text, "/templates/page.html", "exec"), scope)
    call(scope.pop("made_%d" % number), pages)


def call(function, pages):
    function(pages)


def by_plugin(pages):
    # The made one is in the middle: what it calls, and what calls it, stay the same.
    number = next(NUMBERS)
    text = "def made_%d(pages, down):\n down(pages, 0)\n down(pages, 0)\n down(pages, 0)" % number
    scope = {}
    exec(compile(text, "/plugins/middle.py", "exec"), scope)
    scope.pop("made_%d" % number)(pages, down)


def closures(pages):
    def inner(one):
        touch(one)

    inner(pages)
    (lambda: inner(pages))()
    type("Made", (), {"run": lambda self: touch(pages)})().run()


def steps(pages):
    calls(pages)
    raises(pages)
    yields(pages)
    switches(pages)
    makes(pages)


def measure():
    """Pages of one round, and its chains."""
    pages = Pages(1 << 20)
    pages.told = {}
    steps(pages)
    return pages.at


def worker(rounds, size, told, barrier):
    pages = Pages(size * rounds)
    barrier.wait()
    for number in range(rounds):
        pages.told = told if number == 0 else None
        steps(pages)
        if number % 64 == 0:
            gc.collect(0)
    assert pages.at == len(pages.area), (pages.at, len(pages.area))
    KEEP.append(pages)


KEEP = []


def main():
    threads, rounds = map(int, sys.argv[1:])
    sys.setswitchinterval(1e-5)
    print("ready", flush=True)
    sys.stdin.readline()
    size = measure()
    tolds = [{} for _ in range(threads)]
    barrier = threading.Barrier(threads)
    workers = [threading.Thread(target=worker, args=(rounds, size, told, barrier)) for told in tolds]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert len(KEEP) == threads
    truth = {}
    for chain, count in tolds[0].items():
        chain = re.sub("made_[0-9]+", "made_N", chain)
        made = "made_N" in chain
        truth[chain] = count * (1 if made else threads * rounds)
    pages = sum(count * (threads * rounds if "made_N" in chain else 1)
                for chain, count in truth.items())
    assert pages * PAGE == threads * rounds * size
    told = {"pid": os.getpid(), "rounds": threads * rounds, "chains": truth}
    os.write(1, (json.dumps(told) + "\n").encode())


if __name__ == "__main__":
    main()
