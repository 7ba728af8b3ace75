"""Threads that wait at known lines, one that runs, and a forked child: each that waits says where it is.

Usage: python stand_still.py [spin]
Out: one line `thread {"pid", "tid", "name", "frames": [[function, file, line], …]}` a waiting thread, leaf first
(two threads and the main one here, one in the child), and with `spin` one line `spinning TID`. Then all wait for the
end of standard input. Memory: 32 MiB are the parent's and the child's together, 16 MiB more are the parent's own.
"""
import json
import os
import sys
import threading

MiB = 1 << 20
LOCK = threading.Lock()
LOCK.acquire()
PRINT = threading.Lock()


def say(frame):
    frames, tid = [], threading.get_native_id()
    while frame is not None:
        code = frame.f_code
        frames.append([getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno])
        frame = frame.f_back
    name = "at rest %d" % len(frames)
    with open("/proc/self/task/%d/comm" % tid, "w") as comm:
        comm.write(name)
    line = "thread %s\n" % json.dumps({"pid": os.getpid(), "tid": tid, "name": name, "frames": frames})
    with PRINT:
        os.write(1, line.encode())


class Worker:
    def run(self, depth):
        if depth:
            return self.run(depth - 1)
        # One line: what is said is where it waits.
        say(sys._getframe()); LOCK.acquire()

    def größe(self):
        return [self.run(depth) for depth in (3,)]


def spin():
    os.write(1, b"spinning %d\n" % threading.get_native_id())
    count = 0
    while True:
        count = step(count)


def step(count):
    return count + 1


def child(reader):
    say(sys._getframe()); os.read(reader, 1)
    os._exit(0)


def main():
    shared = b"s" * (32 * MiB)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)
        child(reader)
    own = b"p" * (16 * MiB)
    threading.Thread(target=Worker().run, args=(40,), daemon=True).start()
    threading.Thread(target=Worker().größe, daemon=True).start()
    if "spin" in sys.argv:
        threading.Thread(target=spin, daemon=True).start()
    say(sys._getframe()); os.read(0, 1)
    os._exit(len(shared) + len(own) == 0)


if __name__ == "__main__":
    main()
