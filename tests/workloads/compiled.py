"""A loop that runs often enough for the interpreter's JIT, with statements that allocate.

Prints the line of each, what it has kept, and how much executable memory that no file is behind
there is then. The sizes are far enough apart for obmalloc not to keep two in one page.
"""
import json
import sys

ROUNDS = 100000


def compiled_bytes():
    total = 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split()
            if len(fields) == 5 and "x" in fields[1]:
                start, end = (int(address, 16) for address in fields[0].split("-"))
                total += end - start
    return total


def work(rounds):
    first = sys._getframe().f_lineno
    short, tuples, long = [None] * rounds, [None] * rounds, [None] * rounds
    for i in range(rounds):
        short[i] = bytes(100)
        tuples[i] = (short, short, short, short)
        long[i] = bytearray(300)
    return [("short", first + 3, short), ("tuple", first + 4, tuples), ("long", first + 5, long)]


def kept_bytes(kept):
    # obmalloc gives multiples of 16. A bytearray has its bytes in a block of their own.
    sizes = [sys.getsizeof(kept[0])]
    if isinstance(kept[0], bytearray):
        own = sys.getsizeof(bytearray())
        sizes = [own, sizes[0] - own]
    return len(kept) * sum((size + 15) & ~15 for size in sizes)


kept = work(ROUNDS)
lines = [(kind, line, kept_bytes(objects)) for kind, line, objects in kept]
print(json.dumps({"lines": lines, "compiled": compiled_bytes()}))
