"""Two children, the second with the pid that the first one had. Prints `pid N` of them; needs root.

Usage: python same_pid.py [hold]. Waits for a line first, after `ready PID`; `hold`: each child grows by 64 MiB more, and
then waits for a line.
"""
import mmap
import os
import sys

MiB = 1 << 20
HOLD = sys.argv[1:] == ["hold"]


def grow(size):
    size += 64 * MiB * HOLD
    area = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, mmap.PAGESIZE):
        area[offset] = 1
    if HOLD:
        os.read(0, 1)


def first():
    grow(4 * MiB)


def second():
    grow(6 * MiB)


def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def main():
    sys.stdout.write("ready %d\n" % os.getpid())
    sys.stdout.flush()
    sys.stdin.readline()
    pid = child(first)
    # The next pid of this namespace; others fork as well, so it may take some tries.
    for _ in range(1000):
        with open("/proc/sys/kernel/ns_last_pid", "w") as f:
            f.write(str(pid - 1))
        again = os.fork()
        if again == 0:
            if os.getpid() == pid:
                second()
            os._exit(0)
        os.waitpid(again, 0)
        if again == pid:
            break
    else:
        sys.exit("the pid %d did not come again" % pid)
    sys.stdout.write("pid %d\n" % pid)


if __name__ == "__main__":
    main()
