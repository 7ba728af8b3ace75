"""Statements that allocate, each by other means and each on a line of its own (3.6 and later).

After each, note() takes down the line and RSS; the differences are what each line has grown.
"""
import array
import asyncio
import functools
import json
import operator
import os
import struct
import sys

MiB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
N = 4 * MiB
KEEP = []
LINES = []


def rss():
    with open("/proc/self/statm", "rb", buffering=0) as f:
        return int(f.read().split()[1]) * PAGE


def note(kind, up=0):
    LINES.append([kind, sys._getframe(1).f_lineno - up, rss()])


class Holder:
    def __init__(self, size):
        self.kept = b"i" * size

    def __add__(self, size):
        return b"a" * size

    @property
    def large(self):
        return b"p" * N

    def __enter__(self):
        KEEP.append(b"w" * N)

    def __exit__(self, *error):
        pass


def counted(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@counted
def decorated(size=N, *args, **kwargs):
    return b"d" * size


def generate(count):
    for _ in range(count):
        yield b"y" * MiB


async def coroutine():
    await asyncio.sleep(0)
    return b"c" * N


def main():
    # What the statements work on, and what they need loaded.
    text, half, ints = "t" * N, "h" * (N // 2), list(range(N // 8))
    number, strings, holder = 1 << (8 * N), ["s" * 1024] * 4096, Holder(0)
    table, growing, appended, joined, loop = {}, [], [], half, asyncio.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0, loop=loop) if sys.version_info < (3, 8) else asyncio.sleep(0))
    note("start")
    note("start")
    KEEP.append([0] * (N // 8)); note("list repeat")
    KEEP.append(b"b" * N); note("bytes repeat")
    KEEP.append(bytearray(b"b") * N); note("bytearray repeat")
    KEEP.append(half + half); note("str add")
    joined += half; note("str add in place")
    KEEP.append(f"{half}{half}"); note("f-string")
    KEEP.append("%s%s" % (half, half)); note("str format")
    KEEP.append(ints[:]); note("slice")
    KEEP.append([*ints]); note("unpack")
    KEEP.append([i for i in range(N // 32)]); note("list comprehension")
    KEEP.append({i for i in range(N // 32)}); note("set comprehension")
    KEEP.append({i: None for i in range(N // 32)}); note("dict comprehension")
    KEEP.append(list(i for i in range(N // 32))); note("generator expression")
    for i in range(N // 32): table[i] = None
    note("subscript store", up=1)
    for i in range(N // 8): appended.append(None)
    note("append", up=1)
    KEEP.append(tuple(ints)); note("tuple")
    KEEP.append(sorted(ints)); note("sorted")
    KEEP.append(number << N); note("big shift")
    KEEP.append(number + number); note("big add")
    KEEP.append(repr(text)); note("repr")
    KEEP.append("".join(strings)); note("join")
    KEEP.append(text.encode()); note("encode")
    KEEP.append(text.replace("t", "r")); note("replace")
    KEEP.append(Holder(N)); note("__init__")
    KEEP.append(holder + N); note("__add__")
    KEEP.append(holder.large); note("property")
    KEEP.append((lambda size: b"l" * size)(N)); note("lambda")
    KEEP.append(decorated(N)); note("decorator")
    KEEP.append(decorated(*[N], **{"k": 1})); note("star call")
    KEEP.append(list(map(lambda size: b"m" * size, [MiB] * 4))); note("map")
    KEEP.append(list(generate(4))); note("generator")
    KEEP.append(loop.run_until_complete(coroutine())); note("coroutine")
    KEEP.append(open("/dev/zero", "rb", buffering=0).read(N)); note("file read")
    KEEP.append(array.array("d", [0.5]) * (N // 8)); note("array")
    KEEP.append(struct.pack("%ds" % N, b"s") + b""); note("struct")
    KEEP.append(json.dumps(strings)); note("json")
    KEEP.append(functools.reduce(operator.add, [half, half])); note("reduce")
    exec("KEEP.append(b'e' * N)"); note("exec")
    with holder: note("with")
    growing[:] = ints; note("slice store")
    growing.extend(ints); note("extend")
    KEEP.append(dict(zip(ints[:N // 64], ints))); note("dict of zip")
    first, *rest = ints; note("star assignment")
    KEEP.append([b"n" * MiB if i else None for i in range(5)]); note("nested")
    class Body: kept = b"k" * N
    note("class body", up=1)
    try: KEEP.append(b"u" * N); note("try")
    finally: pass
    KEEP.append(joined); KEEP.append(rest)
    print(json.dumps({"pid": os.getpid(), "lines": LINES}))


if __name__ == "__main__":
    main()
