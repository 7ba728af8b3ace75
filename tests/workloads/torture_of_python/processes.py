"""Forks and executed programs."""
import errno
import fcntl
import gc
import os
import subprocess
import sys
import threading

from .common import MiB, in_child, itself, reap, stop, touch


def fork_refcounts():
    rows = [str(n) for n in range(80_000)]
    gc.collect()

    def child():
        stop("fork_refcounts", "forked")
        for row in rows:
            row.isdigit()
        stop("fork_refcounts", "child-read")
        gc.collect()
        stop("fork_refcounts", "child-collected")
        more = [str(n) for n in range(40_000)]
        stop("fork_refcounts", "child-grew")
        del more, rows[:]
        stop("fork_refcounts", "child-forgot")

    reap(in_child(child))
    for row in rows:
        row.isdigit()
    stop("fork_refcounts", "parent-read")
    rows.clear()
    stop("fork_refcounts", "gone")


def fork_frozen():
    rows = [[n] for n in range(80_000)]
    gc.collect()
    gc.freeze()

    def child():
        gc.collect()
        stop("fork_frozen", "child-collected")
        rows.reverse()
        stop("fork_frozen", "child-turned")

    first = in_child(child)
    reap(first)
    gc.unfreeze()
    gc.collect()
    stop("fork_frozen", "parent-collected")


def fork_of_fork():
    kept = bytearray(4 * MiB)

    def grandchild():
        touch(kept, 0, MiB)
        stop("fork_of_fork", "grandchild")

    def child():
        touch(kept, 0, 2 * MiB)
        pid = in_child(grandchild)
        touch(kept, 2 * MiB, 3 * MiB)
        reap(pid)
        stop("fork_of_fork", "child")

    reap(in_child(child))
    touch(kept)
    stop("fork_of_fork", "alone")


def orphan():
    """A grandchild that outlives its parent."""
    reading, writing = os.pipe()

    def grandchild():
        os.close(reading)
        data = bytearray(2 * MiB)
        # The parent is reaped by now, or soon: whoever asks for it finds another one.
        while os.getppid() == parent[0]:
            os.sched_yield()
        stop("orphan", "parent-gone")
        data.extend(bytes(2 * MiB))
        stop("orphan", "orphan-grew")
        reap(in_child(lambda: stop("orphan", "child-of-orphan")))
        os.write(writing, b"d")

    parent = []

    def child():
        parent.append(os.getpid())
        in_child(grandchild)

    pid = in_child(child)
    os.close(writing)
    reap(pid)
    os.read(reading, 1)
    # Its end of the pipe is closed when it has gone.
    os.read(reading, 1)
    os.close(reading)
    stop("orphan", "gone")


def children_in_a_row():
    kept = []
    for number in range(60):
        kept.append(bytearray(100_000))
        reap(in_child(lambda: kept.append(bytearray(MiB))))
    stop("children_in_a_row", "unseen-60")


LAST_PID = "/proc/sys/kernel/ns_last_pid"


def fork_as(pid, body):
    """A child with this pid. Others fork too: each try that gets another pid goes at once."""
    reading, writing = os.pipe()
    with open(LAST_PID, "r+b", 0) as last:
        for _ in range(1000):
            fcntl.flock(last, fcntl.LOCK_EX)
            os.pwrite(last.fileno(), b"%d" % (pid - 1), 0)
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    if os.getpid() == pid:
                        body()
                    status = 0
                finally:
                    os._exit(status)
            fcntl.flock(last, fcntl.LOCK_UN)
            reap(child)
            if child == pid:
                return
    raise OSError(errno.EAGAIN, "pid %d is not to be had" % pid)


def pid_reused():
    """Children that get, one after the other, the pid that a traced one just had."""
    data = bytearray(2 * MiB)

    def first():
        more = bytearray(MiB)
        touch(data, 0, MiB)
        stop("pid_reused", "first")
        del more

    pid = in_child(first)
    reap(pid)
    stop("pid_reused", "first-gone")

    def second():
        more = [bytearray(2 * MiB)]
        stop("pid_reused", "second")
        del more[:]
        stop("pid_reused", "second-forgot")

    fork_as(pid, second)
    stop("pid_reused", "second-gone")
    fork_as(pid, lambda: os.execv(sys.executable, itself("pid_reused")))
    stop("pid_reused", "third-gone")

    def at_once():
        return None

    for _ in range(3):
        fork_as(pid, at_once)
    fork_as(pid, lambda: stop("pid_reused", "last"))
    stop("pid_reused", "last-gone")


def executed():
    def child():
        data = bytearray(2 * MiB)
        stop("executed", "before")
        os.execv(sys.executable, itself("executed"))

    reap(in_child(child))
    stop("executed", "reaped")

    def in_thread():
        thread = threading.Thread(target=os.execv, args=(sys.executable, itself("executed")))
        thread.start()
        thread.join()

    reap(in_child(in_thread))
    stop("executed", "reaped-again")


def subprocesses():
    subprocess.run(itself("subprocesses"), check=True)
    stop("subprocesses", "vfork")
    subprocess.run(itself("subprocesses"), check=True, close_fds=False)
    stop("subprocesses", "posix-spawn")
    subprocess.run(itself("subprocesses"), check=True, preexec_fn=lambda: bytearray(MiB))
    stop("subprocesses", "fork")
    reap(os.posix_spawn(sys.executable, itself("subprocesses"), os.environ))
    out = subprocess.run(["/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"], check=True, capture_output=True)
    stop("subprocesses", "piped-%d" % len(out.stdout))
    with subprocess.Popen(["/bin/sleep", "1000"]) as sleeper:
        stop("subprocesses", "not-python")
        sleeper.kill()
    stop("subprocesses", "killed")
