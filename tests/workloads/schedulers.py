"""Work that is handed to threads, processes, interpreters, generators and coroutines: it touches
pages, and says by which chain of callers. Runs on 3.6 and later.

Usage: python schedulers.py. Out: a line of JSON a process or interpreter.
"""
import asyncio
import concurrent.futures
import multiprocessing
import os
import threading

import chains
from chains import touch

HERE = os.path.dirname(os.path.abspath(__file__))


# A thread that begins when the one before has ended gets its id and its stack.
def one_thread_after_another():
    for _ in range(20):
        thread = threading.Thread(target=in_short_thread)
        thread.start()
        thread.join()


def in_short_thread():
    touch()


def many_threads_at_once():
    barrier = threading.Barrier(16)
    threads = [threading.Thread(target=in_crowd, args=(barrier,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_crowd(barrier):
    barrier.wait()
    touch()
    barrier.wait()


def pool_of_threads():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(in_pool, range(16)))
        pool.submit(in_pool, 0).add_done_callback(in_done_callback)


def in_pool(_):
    touch()


def in_done_callback(_):
    # Runs in the pool's thread, or in ours if the work was faster.
    in_pool(0)


def without_gil():
    # Pages that only the kernel touches, while the thread does not hold the GIL.
    with open("/dev/zero", "rb", buffering=0) as zero:
        chains.touch_by(zero.readinto)


def generators():
    list(outer_generator())
    max(range(3), key=in_callback)
    reopened = inner_generator()
    for _ in range(2):
        next(reopened)
    from_elsewhere(reopened)


def from_elsewhere(generator):
    list(generator)
    try:
        generator = inner_generator()
        next(generator)
        generator.throw(KeyError())
    except KeyError:
        touch()


def outer_generator():
    touch()
    yield from inner_generator()
    yield from (middle for middle in inner_generator())


def inner_generator():
    try:
        for _ in range(4):
            touch()
            yield
    finally:
        touch()


def in_callback(number):
    if number == 1:
        touch()
    return number


async def outer_task():
    touch()
    await middle_task()


async def middle_task():
    await asyncio.sleep(0)
    async with Manager():
        async for _ in ticks():
            await inner_task()
    [await inner_task() async for _ in ticks()]


class Manager:
    async def __aenter__(self):
        touch()
        return self

    async def __aexit__(self, *error):
        await inner_task()


class Awaitable:
    def __await__(self):
        touch()
        yield from inner_task().__await__()


async def ticks():
    for tick in range(3):
        await asyncio.sleep(0)
        await Awaitable()
        touch()
        yield tick


async def inner_task():
    await asyncio.sleep(0)
    touch()


def coroutines():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(gathered())
    loop.run_until_complete(handed_over(loop))
    if hasattr(asyncio, "TaskGroup"):
        loop.run_until_complete(grouped())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def gathered():
    await asyncio.gather(outer_task(), outer_task())


async def handed_over(loop):
    loop.call_soon(touch)
    await loop.run_in_executor(None, in_executor)
    if hasattr(asyncio, "to_thread"):
        await asyncio.to_thread(in_executor)
    await asyncio.wait_for(asyncio.shield(outer_task()), 60)


async def grouped():
    # 3.11 and later, so that the name is no syntax.
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(outer_task())


def in_executor():
    touch()


def in_process():
    touch()
    chains.say()


def in_pool_of_processes(_):
    in_process()


def processes():
    for method in ("fork", "forkserver", "spawn"):
        process = multiprocessing.get_context(method).Process(target=in_process)
        process.start()
        process.join()
        assert process.exitcode == 0, method
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.map(in_pool_of_processes, [0])
        pool.close()
        pool.join()


IN_INTERPRETER = """
import sys
sys.path.insert(0, %r)
import chains

def in_interpreter():
    chains.touch()

in_interpreter()
chains.say()
""" % HERE

LEAK = """
import ctypes
for area in chains.KEEP:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(area))
"""


def interpreters():
    # Kept: what its end gives back would be counted as freed.
    try:
        import _interpreters

        chains.KEEP.append(_interpreters.create())
        failure = _interpreters.exec(chains.KEEP[-1], IN_INTERPRETER)
        assert failure is None, failure
    except ImportError:
        try:
            import _xxsubinterpreters

            chains.KEEP.append(_xxsubinterpreters.create())
            _xxsubinterpreters.run_string(chains.KEEP[-1], IN_INTERPRETER)
        except ImportError:  # 3.7 and older, where it ends with its script
            import _testcapi

            _testcapi.run_in_subinterp(IN_INTERPRETER + LEAK)


def main():
    one_thread_after_another()
    many_threads_at_once()
    pool_of_threads()
    without_gil()
    generators()
    coroutines()
    chains.say()
    processes()
    interpreters()
    # The shutdown would give back what the other interpreter has, before it says that it has begun.
    os._exit(0)


if __name__ == "__main__":
    main()
