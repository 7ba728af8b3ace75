"""Functions whose growth is at one known line each, in ways that memory_profiler gets wrong.

Usage: python line_tables.py [--workers N]
Runs on CPython 3.6 and later, standard library only; under `python -m memory_profiler` too, which
puts `profile` among the builtins. Prints one JSON line:
{"pid": …, "truth": {function: {"gross": bytes, "net": bytes}}, "rss_before": …, "rss_after": …}
gross = high-water mark of the call over RSS before it (VmHWM, set back by /proc/self/clear_refs),
once a round; net = RSS still held at the end; both are the kernel's numbers. The line meant is the
one that ends in `# here`. With --workers, N forked processes grow at one line of one function, and
print such a line each.
"""
import argparse, functools, json, mmap, os, sys, threading

try:
    profile
except NameError:
    def profile(func):
        return func

MiB = 1 << 20
# Above the largest threshold that glibc's malloc moves to: each block is a mapping of its own.
BLOCK = 40 * MiB
PAGES = b"p" * MiB
KEEP = []
TRUTH = {}


def rss():
    with open("/proc/self/smaps_rollup") as f:
        for line in f:
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024


def high_water():
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024


def measured(func, rounds=1):
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before = rss()
    func()
    TRUTH[func.__name__] = {"gross": (high_water() - before) * rounds, "net": rss() - before}


@profile
def loop():
    for _ in range(4):
        block = b"l" * BLOCK  # here
        del block


@profile
def transient():
    return len(b"t" * (200 * MiB))  # here


@profile
def deleted():
    first = b"d" * BLOCK  # here
    del first


@profile
def comprehension():
    KEEP.append([b"c" * MiB for _ in range(24)])  # here


@profile
def recursive(depth=5):
    if depth:
        return recursive(depth - 1)  # again
    KEEP.append(b"r" * BLOCK)  # here


def twice(number):
    def decorator(func):
        @functools.wraps(func)
        def wrapper():
            for _ in range(number):
                func()
        return wrapper
    return decorator


@twice(
    number=2)
@profile
def decorated():
    text = """
not indented, and no end
"""
    KEEP.append((text, b"w" * BLOCK))  # here


@profile
def in_thread():
    thread = threading.Thread(target=thread_body)
    thread.start()
    thread.join()  # not here


def thread_body():
    KEEP.append(b"b" * (100 * MiB))  # here


@profile
def mapped():
    area = mmap.mmap(-1, 300 * MiB)  # asks
    KEEP.append(area)
    for offset in range(0, 100 * MiB, MiB):
        area[offset:offset + MiB] = PAGES  # here


def say(truth, before):
    text = json.dumps({"pid": os.getpid(), "truth": truth, "rss_before": before, "rss_after": rss()})
    # In one piece: the workers write to one pipe.
    os.write(sys.stdout.fileno(), (text + "\n").encode())


def worker():
    before = rss()
    work()
    grown = {"gross": rss() - before, "net": rss() - before}
    say({"work": grown}, before)
    os._exit(0)


def work():
    KEEP.append(b"w" * BLOCK)  # here


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--workers", type=int, default=0)
    args = args.parse_args()
    for _ in range(args.workers):
        if os.fork() == 0:
            worker()
    for _ in range(args.workers):
        os.wait()
    if args.workers:
        return
    before = rss()
    measured(loop, rounds=4)
    for func in (transient, deleted, comprehension, recursive, decorated, in_thread, mapped):
        measured(func)
    TRUTH["thread_body"] = TRUTH["in_thread"]
    say(TRUTH, before)


if __name__ == "__main__":
    main()
