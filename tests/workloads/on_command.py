"""Does what standard input says, one word and a number a line, and answers each with a line.

grow N       makes N MiB resident in grow()
fall N       gives the last N blocks of grow() back
work N       answers after N million steps of pure Python
exit N       exits with code N
First line out: `ready PID`. Then one `done WORD RSS` a command. End of input: exit 0.
"""
import os
import sys

MiB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
KEEP = []


def rss():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * PAGE


def say(*words):
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def grow(mib):
    KEEP.append(b"s" * (mib * MiB))


def fall(blocks):
    del KEEP[-blocks:]


def work(millions):
    for _ in range(millions * 1000000):
        pass


def leave(code):
    sys.exit(code)


COMMANDS = {"grow": grow, "fall": fall, "work": work, "exit": leave}


def main():
    say("ready", os.getpid())
    for line in iter(sys.stdin.readline, ""):
        word, number = line.split()
        COMMANDS[word](int(number))
        say("done", word, rss())


if __name__ == "__main__":
    main()
