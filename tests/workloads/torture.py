"""Every way in which a process's pages come and go, one C function each, called by a Python function of its name.

Usage: python torture.py --ready FIFO --go FIFO [--library SO --scratch DIR] [--cases NAME,…] [--only-stop NAME].
The library is torture/*.c. At each stop it writes `CASE STEP PID` to the first FIFO, from whichever process stands
there, and waits on the second; the first stop is `begin`, the last `end`. Prints one JSON line at the end:
{"pid": …, "cases": {name: bytes that it made resident itself, 0 for "look at the stops", -errno for "not here"}}
With --only-stop it is the program that a child executes: one stop, and out.
"""
import argparse
import ctypes
import json
import os
import sys

LIB = None


def anon_forwards():
    return LIB.anon_forwards()


def anon_backwards():
    return LIB.anon_backwards()


def anon_random():
    return LIB.anon_random()


def zero_page_read_then_written():
    return LIB.zero_page_read_then_written()


def populated_by_mmap():
    return LIB.populated_by_mmap()


def populated_by_advice():
    return LIB.populated_by_advice()


def locked():
    return LIB.locked()


def locked_in_future():
    return LIB.locked_in_future()


def unmapped_in_part():
    return LIB.unmapped_in_part()


def mapped_over():
    return LIB.mapped_over()


def failing_calls():
    return LIB.failing_calls()


def heap_moved():
    return LIB.heap_moved()


def protected_and_back():
    return LIB.protected_and_back()


def huge_written():
    return LIB.huge_written()


def huge_zero_then_written():
    return LIB.huge_zero_then_written()


def huge_split_by_munmap():
    return LIB.huge_split_by_munmap()


def huge_split_by_mprotect():
    return LIB.huge_split_by_mprotect()


def huge_split_by_advice():
    return LIB.huge_split_by_advice()


def huge_by_collapse():
    return LIB.huge_by_collapse()


def huge_moved():
    return LIB.huge_moved()


def folios_written():
    return LIB.folios_written()


def file_read_shared():
    return LIB.file_read_shared()


def file_window_with_holes():
    return LIB.file_window_with_holes()


def file_not_cached():
    return LIB.file_not_cached()


def file_private_written():
    return LIB.file_private_written()


def file_populated():
    return LIB.file_populated()


def file_truncated():
    return LIB.file_truncated()


def file_paged_out():
    return LIB.file_paged_out()


def file_huge():
    return LIB.file_huge()


def read_into_fresh():
    return LIB.read_into_fresh()


def read_directly():
    return LIB.read_directly()


def written_from_fresh():
    return LIB.written_from_fresh()


def vm_read_into_fresh():
    return LIB.vm_read_into_fresh()


def written_by_another():
    return LIB.written_by_another()


def received_into_fresh():
    return LIB.received_into_fresh()


def random_into_fresh():
    return LIB.random_into_fresh()


def signal_frame_on_fresh():
    return LIB.signal_frame_on_fresh()


def advised_by_another():
    return LIB.advised_by_another()


def mremap_in_place():
    return LIB.mremap_in_place()


def mremap_moved():
    return LIB.mremap_moved()


def mremap_onto_another():
    return LIB.mremap_onto_another()


def mremap_left_mapped():
    return LIB.mremap_left_mapped()


def mremap_doubled():
    return LIB.mremap_doubled()


def mremap_of_file():
    return LIB.mremap_of_file()


def advised_not_needed():
    return LIB.advised_not_needed()


def advised_free():
    return LIB.advised_free()


def advised_removed():
    return LIB.advised_removed()


def guarded():
    return LIB.guarded()


def shared_anonymous():
    return LIB.shared_anonymous()


def memfd_resized():
    return LIB.memfd_resized()


def sysv_attached():
    return LIB.sysv_attached()


def shared_with_child():
    return LIB.shared_with_child()


def stack_grown():
    return LIB.stack_grown()


def thread_stacks():
    return LIB.thread_stacks()


def threads_at_once():
    return LIB.threads_at_once()


def threads_reuse_addresses():
    return LIB.threads_reuse_addresses()


def threads_on_same_pages():
    return LIB.threads_on_same_pages()


def threads_take_away():
    return LIB.threads_take_away()


def fork_child_writes():
    return LIB.fork_child_writes()


def fork_parent_writes():
    return LIB.fork_parent_writes()


def fork_huge():
    return LIB.fork_huge()


def fork_child_unmaps():
    return LIB.fork_child_unmaps()


def fork_chain():
    return LIB.fork_chain()


def fork_and_exec():
    return LIB.fork_and_exec()


def vfork_and_exec():
    return LIB.vfork_and_exec()


def fork_in_thread():
    return LIB.fork_in_thread()


def fork_often():
    return LIB.fork_often()


CASES = (
    # anonymous.c
    anon_forwards, anon_backwards, anon_random, zero_page_read_then_written, populated_by_mmap,
    populated_by_advice, locked, locked_in_future, unmapped_in_part, mapped_over, failing_calls, heap_moved,
    protected_and_back,
    # huge.c
    huge_written, huge_zero_then_written, huge_split_by_munmap, huge_split_by_mprotect, huge_split_by_advice,
    huge_by_collapse, huge_moved, folios_written,
    # files.c
    file_read_shared, file_window_with_holes, file_not_cached, file_private_written, file_populated,
    file_truncated, file_paged_out, file_huge,
    # kernel_side.c
    read_into_fresh, read_directly, written_from_fresh, vm_read_into_fresh, written_by_another,
    received_into_fresh, random_into_fresh, signal_frame_on_fresh, advised_by_another,
    # moves.c
    mremap_in_place, mremap_moved, mremap_onto_another, mremap_left_mapped, mremap_doubled, mremap_of_file,
    # advice.c
    advised_not_needed, advised_free, advised_removed, guarded,
    # shared.c
    shared_anonymous, memfd_resized, sysv_attached, shared_with_child,
    # stacks.c
    stack_grown, thread_stacks, threads_at_once, threads_reuse_addresses, threads_on_same_pages,
    threads_take_away,
    # forks.c
    fork_child_writes, fork_parent_writes, fork_huge, fork_child_unmaps, fork_chain, fork_and_exec,
    vfork_and_exec, fork_in_thread, fork_often,
)


def stop(args, name, step):
    with open(args.ready, "w") as f:
        f.write("%s %s %d" % (name, step, os.getpid()))
    with open(args.go) as f:
        f.read()


def load(args):
    lib = ctypes.CDLL(args.library)
    words = (args.scratch, sys.executable, os.path.abspath(__file__), args.ready, args.go)
    # Kept here: the library keeps the addresses.
    lib.kept = [ctypes.c_char_p(os.fsencode(word)) for word in words]
    lib.torture_begin.restype = None
    lib.torture_begin(*lib.kept)
    for case in CASES:
        function = getattr(lib, case.__name__)
        function.argtypes = ()
        function.restype = ctypes.c_long
    return lib


def main():
    global LIB
    args = argparse.ArgumentParser()
    args.add_argument("--ready", required=True)
    args.add_argument("--go", required=True)
    args.add_argument("--library")
    args.add_argument("--scratch")
    args.add_argument("--cases")
    args.add_argument("--only-stop")
    args = args.parse_args()
    if args.only_stop:
        stop(args, args.only_stop, "executed")
        return
    LIB = load(args)
    chosen = args.cases.split(",") if args.cases else [case.__name__ for case in CASES]
    done = {}
    stop(args, "begin", "begin")
    for case in CASES:
        if case.__name__ in chosen:
            done[case.__name__] = case()
    stop(args, "end", "end")
    print(json.dumps({"pid": os.getpid(), "cases": done}))


if __name__ == "__main__":
    main()
