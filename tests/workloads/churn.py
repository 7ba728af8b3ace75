"""Maps, touches, gives back, moves, forks and frees at full speed, in threads and processes, and then stands still.

Usage: python churn.py --ready FIFO --go FIFO --seconds N. The stops are torture.py's: begin, churn/still, end.
"""
import argparse
import mmap
import os
import random
import tempfile
import threading
import time

MiB = 1 << 20
PAGE = mmap.PAGESIZE


def stop(args, name, step):
    with open(args.ready, "w") as f:
        f.write("%s %s %d" % (name, step, os.getpid()))
    with open(args.go) as f:
        f.read()


def touch(area, dice):
    start = dice.randrange(0, len(area), PAGE)
    for offset in range(start, min(len(area), start + dice.randrange(1, 64) * PAGE), PAGE):
        area[offset] = 1


def anonymous(dice, kept):
    kept.append(mmap.mmap(-1, dice.randrange(1, 512) * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    touch(kept[-1], dice)


def shared(dice, kept):
    kept.append(mmap.mmap(-1, dice.randrange(1, 128) * PAGE))
    touch(kept[-1], dice)


def of_file(dice, kept):
    with tempfile.TemporaryFile() as file:
        file.truncate(dice.randrange(1, 128) * PAGE)
        kept.append(mmap.mmap(file.fileno(), 0, access=dice.choice((mmap.ACCESS_COPY, mmap.ACCESS_WRITE))))
    touch(kept[-1], dice)


def advise(dice, kept):
    if kept:
        area = dice.choice(kept)
        start = dice.randrange(0, len(area), PAGE)
        area.madvise(dice.choice((mmap.MADV_DONTNEED, mmap.MADV_NORMAL)), start, dice.randrange(1, len(area) - start + 1))
        touch(area, dice)


def close(dice, kept):
    if kept:
        kept.pop(dice.randrange(len(kept))).close()


def heap(dice, kept):
    rows = [bytearray(dice.randrange(1, 200000)) for _ in range(dice.randrange(20))]
    del rows


def churn(seed, until, forks):
    dice, kept, children = random.Random(seed), [], []
    ways = (anonymous, anonymous, shared, of_file, advise, close, close, heap)
    while time.monotonic() < until:
        dice.choice(ways)(dice, kept)
        if forks and dice.random() < 0.002:
            pid = os.fork()
            if pid == 0:
                for _ in range(50):
                    dice.choice(ways)(dice, kept)
                os._exit(0)
            children.append(pid)
        while len(kept) > 64:
            close(dice, kept)
        while len(children) > 2:
            os.waitpid(children.pop(0), 0)
    for pid in children:
        os.waitpid(pid, 0)
    return kept


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--ready", required=True)
    args.add_argument("--go", required=True)
    args.add_argument("--seconds", type=float, required=True)
    args = args.parse_args()
    stop(args, "begin", "begin")
    until = time.monotonic() + args.seconds
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        kept = churn(7, until, True)
        # Stands still with what it has until its parent has done so.
        os.read(reader, 1)
        os._exit(len(kept) == 0)
    os.close(reader)
    results = []
    threads = [threading.Thread(target=lambda n=n: results.append(churn(n, until, False))) for n in range(3)]
    for thread in threads:
        thread.start()
    results.append(churn(99, until, True))
    for thread in threads:
        thread.join()
    stop(args, "churn", "still")
    os.close(writer)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the child failed")
    del results
    stop(args, "end", "end")


if __name__ == "__main__":
    main()
