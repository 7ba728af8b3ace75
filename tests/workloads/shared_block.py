"""A master with a block of memory that its forked children have too and never write.

Usage: python shared_block.py [--children N] [--hold SECONDS]
Runs on CPython 3.6 and later, standard library only. Prints one JSON line when all children are
there, and stays so for a while:
{"rss": …, "pss": …}   sums over master and children, bytes, from smaps_rollup
"""
import argparse, json, os, sys, time

MiB = 1 << 20


def rollup(pid, field):
    with open("/proc/%d/smaps_rollup" % pid) as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--children", type=int, default=3)
    args.add_argument("--hold", type=float, default=3)
    args = args.parse_args()
    block = b"b" * (100 * MiB)
    end_read, end_write = os.pipe()
    pids = [os.getpid()]
    for _ in range(args.children):
        pid = os.fork()
        if pid == 0:
            os.close(end_write)
            os.read(end_read, 1)
            os._exit(len(block) == 0)
        pids.append(pid)
    sums = {field.lower(): sum(rollup(pid, field) for pid in pids) for field in ("Rss", "Pss")}
    os.write(sys.stdout.fileno(), (json.dumps(sums) + "\n").encode())
    time.sleep(args.hold)
    os.close(end_write)
    for pid in pids[1:]:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
