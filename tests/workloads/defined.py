"""Defines functions while it runs and calls them at once. What it does is its first argument:

workers N   N children, one after another while those before live, each defines late() and calls it
            10 times
anew N      beside a child that lives: N times, defines late(), mostly where no other one was, calls
            it 10 times, and lets it go
later       beside a child that has it, too: calls late() 10 times and lets it go; when the tracer has
            noticed, the same with another one, elsewhere
alike N     N functions late() that live at one time, each called once
greenlet    imports greenlet, and calls early() 10 times
threads N   N threads; when a line comes, each calls early() 10 times
forked      waits for a line, forks, has the child call early() 10 times when another line comes
Prints `pid PID` of each process that calls. Python 3.8 and later.
"""
import os
import sys
import threading
import time

SOURCE = "def %s(n):\n    return n + %d\n"
KEEP = []


def early(n):
    return n


def made(name, number):
    namespace = {}
    exec(SOURCE % (name, number), namespace)
    return namespace.pop(name)


def call(function, count):
    for i in range(count):
        function(i)


def say(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def workers(count):
    pids = []
    done, held = os.pipe()
    for number in range(count):
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(held)
            call(made("late", 0), 10)
            os.write(tell, b"x")
            os.read(done, 1)
            os._exit(0)
        os.read(told, 1)
        say("pid", pid)
        pids.append(pid)
    os.close(held)
    for pid in pids:
        os.waitpid(pid, 0)


def anew(count):
    done, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        os.read(done, 1)
        os._exit(0)
    for number in range(count):
        late = made("late", number)
        call(late, 10)
        del late
        # Wherever something like it was freed.
        KEEP.extend(made("other", number) for _ in range(8))
    say("pid", os.getpid())
    os.close(held)
    os.waitpid(child, 0)


def later():
    late = made("late", 0)
    done, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        os.read(done, 1)
        os._exit(0)
    call(late, 10)
    del late
    KEEP.extend(made("other", number) for number in range(50))
    # It is asked once a second whether functions have died. Before, it is not yet what is meant.
    time.sleep(2.5)
    call(made("late", 1), 10)
    say("pid", os.getpid())
    os.close(held)
    os.waitpid(child, 0)


def alike(count):
    for number in range(count):
        KEEP.append(made("late", number))
        KEEP[-1](number)
    say("pid", os.getpid())


def greenlet():
    import greenlet

    greenlet.getcurrent()
    call(early, 10)
    say("pid", os.getpid())


def forked():
    say("ready", os.getpid())
    sys.stdin.readline()
    pid = os.fork()
    if pid == 0:
        sys.stdin.readline()
        call(early, 10)
        os._exit(0)
    say("pid", pid)
    os.waitpid(pid, 0)


def threads(count):
    go = threading.Event()

    def body():
        go.wait()
        call(early, 10)

    all_of_them = [threading.Thread(target=body) for _ in range(count)]
    for thread in all_of_them:
        thread.start()
    say("ready", os.getpid())
    sys.stdin.readline()
    go.set()
    for thread in all_of_them:
        thread.join()


if __name__ == "__main__":
    globals()[sys.argv[1]](*map(int, sys.argv[2:]))
