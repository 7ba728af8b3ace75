"""Every way in which Python makes a process's pages come and go, with stops at which everything stands still.

Usage: python torture_python.py --ready FIFO --go FIFO [--scratch DIR] [--cases NAME,…] [--only-stop NAME]
The protocol of torture.py: at each stop it writes `CASE STEP PID` to the first FIFO, from whichever process stands
there, and waits on the second; the first stop is `begin`, the last `end`. A step `unseen…` comes after children that
had no stop of their own. Prints {"pid": …, "cases": {name: 0}}, with -errno for a case that this machine does not
allow. With --only-stop it is the program that a child executes. The cases are in torture_of_python/.
"""
import argparse
import errno
import json
import os
import sys
import tempfile

# The folder may be somebody else's.
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

from torture_of_python import frameworks, kernel, mappings, objects, processes, threads
from torture_of_python.common import stop

CASES = (
    threads.threads_from_before, threads.child_from_before, mappings.mmap_anonymous, mappings.mmap_advised,
    mappings.mmap_shared, mappings.mmap_of_file, mappings.mmap_copied, mappings.file_cut_and_grown, mappings.memfd,
    objects.bytearray_grown, objects.containers, objects.cycles, objects.text, objects.libraries, objects.imports,
    threads.threads_grow, threads.threads_come_and_go, threads.threads_on_one_mapping, threads.forked_in_thread,
    threads.deep_recursion, threads.signals, kernel.kernel_side, kernel.sockets, kernel.libc_heap,
    kernel.libc_mremap, kernel.interpreter_pages, processes.fork_refcounts, processes.fork_frozen,
    processes.fork_of_fork, processes.orphan, processes.children_in_a_row, processes.pid_reused, processes.executed,
    processes.subprocesses, frameworks.mp_fork, frameworks.mp_spawn, frameworks.mp_forkserver, frameworks.mp_pool,
    frameworks.mp_shared_memory, frameworks.event_loop,
)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--ready")
    args.add_argument("--go")
    args.add_argument("--scratch")
    args.add_argument("--cases")
    args.add_argument("--only-stop")
    args = args.parse_args()
    if args.only_stop:
        stop(args.only_stop, "executed")
        return
    os.environ.update(TORTURE_READY=args.ready, TORTURE_GO=args.go)
    if args.scratch:
        tempfile.tempdir = args.scratch
    chosen = args.cases.split(",") if args.cases else [case.__name__ for case in CASES]
    if "child_from_before" in chosen:
        threads.begin_child()
    if "threads_from_before" in chosen:
        threads.begin_threads()
    done = {}
    stop("begin", "begin")
    for case in CASES:
        if case.__name__ in chosen:
            done[case.__name__] = 0
            try:
                case()
            except OSError as error:
                done[case.__name__] = -(error.errno or errno.EIO)
                sys.stderr.write("%s: %s\n" % (case.__name__, error))
    stop("end", "end")
    print(json.dumps({"pid": os.getpid(), "cases": done}))


if __name__ == "__main__":
    main()
