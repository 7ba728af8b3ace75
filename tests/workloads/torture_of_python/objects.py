"""Objects that come and go, and libraries that are loaded."""
import ctypes
import gc
import os
import random

from .common import MiB, stop


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
