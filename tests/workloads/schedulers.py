"""Work that is handed to threads, processes, generators and coroutines: who allocates, and in what
chain of callers. Runs on 3.6 and later.

Usage: python schedulers.py. Out: one line of JSON a process, with the bytes that each of its
functions holds; the functions' names say by whom they are called.
"""
import asyncio
import concurrent.futures
import json
import mmap
import multiprocessing
import os
import sys
import threading

MiB = 1 << 20
KEEP = []


def say(truth):
    os.write(1, (json.dumps({"pid": os.getpid(), "truth": truth}) + "\n").encode())


def keep(letter, size):
    KEEP.append(letter * size)


# A thread that begins when the one before has ended gets its id and its stack.
def one_thread_after_another():
    for _ in range(20):
        thread = threading.Thread(target=in_short_thread)
        thread.start()
        thread.join()


def in_short_thread():
    keep(b"s", MiB)


def many_threads_at_once():
    barrier = threading.Barrier(16)
    threads = [threading.Thread(target=in_crowd, args=(barrier,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_crowd(barrier):
    barrier.wait()
    keep(b"c", MiB)
    barrier.wait()


def pool_of_threads():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(in_pool, range(16)))


def in_pool(_):
    keep(b"p", MiB)


def without_gil():
    # Pages that only the kernel touches, while the thread does not hold the GIL.
    area = mmap.mmap(-1, 8 * MiB)
    KEEP.append(area)
    with open("/dev/zero", "rb", buffering=0) as zero:
        zero.readinto(area)


def generators():
    KEEP.append(list(outer_generator()))


def outer_generator():
    yield from inner_generator()


def inner_generator():
    for _ in range(8):
        yield b"g" * MiB


async def outer_task():
    await middle_task()


async def middle_task():
    await asyncio.sleep(0)
    async with Manager():
        async for _ in ticks():
            await inner_task()


class Manager:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        pass


async def ticks():
    for tick in range(4):
        await asyncio.sleep(0)
        yield tick


async def inner_task():
    await asyncio.sleep(0)
    keep(b"t", 2 * MiB)


def coroutines():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(gathered())
    loop.close()


async def gathered():
    await asyncio.gather(outer_task(), outer_task())


def in_forked():
    keep(b"f", 8 * MiB)
    say({"in_forked": 8 * MiB})


def in_forkserver():
    keep(b"v", 8 * MiB)
    say({"in_forkserver": 8 * MiB})


def in_spawned():
    keep(b"w", 8 * MiB)
    say({"in_spawned": 8 * MiB})


def processes():
    for method, target in (("fork", in_forked), ("forkserver", in_forkserver), ("spawn", in_spawned)):
        process = multiprocessing.get_context(method).Process(target=target)
        process.start()
        process.join()
        assert process.exitcode == 0, method


def main():
    one_thread_after_another()
    many_threads_at_once()
    pool_of_threads()
    without_gil()
    generators()
    coroutines()
    say({"in_short_thread": 20 * MiB, "in_crowd": 16 * MiB, "in_pool": 16 * MiB, "without_gil": 8 * MiB,
         "inner_generator": 8 * MiB, "inner_task": 16 * MiB})
    processes()


if __name__ == "__main__":
    main()
