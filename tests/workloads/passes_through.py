"""Shows what a program gets from whoever started it, as one JSON line, and reacts to signals.

{"argv": […], "stdin": "…", "uid": N, "cwd": "…", "env": "…", "ignored": "…", "blocked": "…"}
With `--wait` it stays after that: a line `got NAME` for SIGUSR1 and SIGHUP; SIGTERM ends it with code 7.
With `--code N` it exits with N, with `--die N` it kills itself with signal N.
"""
import json
import os
import signal
import sys


def status(field):
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(field + ":"):
                return line.split()[1]


def said(number, _frame):
    name = signal.Signals(number).name
    os.write(1, ("got %s\n" % name).encode())
    if name == "SIGTERM":
        os._exit(7)


def main():
    words = sys.argv[1:]
    wait = "--wait" in words
    stdin = "" if wait else sys.stdin.read()
    got = {"argv": words, "stdin": stdin, "uid": os.getuid(), "cwd": os.getcwd()}
    got.update(env=os.environ.get("PASSED", ""), ignored=status("SigIgn"), blocked=status("SigBlk"))
    if wait:
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, said)
    os.write(1, (json.dumps(got) + "\n").encode())
    while wait:
        signal.pause()
    if "--die" in words:
        os.kill(os.getpid(), int(words[words.index("--die") + 1]))
    sys.exit(int(words[words.index("--code") + 1]) if "--code" in words else 0)


if __name__ == "__main__":
    main()
