"""Two threads map, fill and unmap without the GIL: the kernel hands the addresses of one to the other at once.

Usage: python map_race.py [ROUNDS]. Prints {"pid": …, "truth": {function: bytes made resident}}; nothing stays.
"""
import json
import mmap
import os
import sys
import threading

MiB = 1 << 20
SIZE = 4 * MiB
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
ZERO = os.open("/dev/zero", os.O_RDONLY)
START = threading.Barrier(2)


def one():
    START.wait()
    for _ in range(ROUNDS):
        area = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        os.readv(ZERO, [area])
        area.close()


def other():
    START.wait()
    for _ in range(ROUNDS):
        area = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        os.readv(ZERO, [area])
        area.close()


def main():
    threads = [threading.Thread(target=body) for body in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    truth = {body.__name__: ROUNDS * SIZE for body in (one, other)}
    print(json.dumps({"pid": os.getpid(), "truth": truth}))


if __name__ == "__main__":
    main()
