"""multiprocessing and asyncio."""
import asyncio
import multiprocessing
import multiprocessing.shared_memory

from .common import MiB, in_child, itself, read, reap, stop, touch


def worker_grows(case, step):
    data = bytearray(2 * MiB)
    stop(case, step)
    return len(data)


def mp_process(case, method):
    context = multiprocessing.get_context(method)
    process = context.Process(target=worker_grows, args=(case, "worker"))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("a worker failed")
    stop(case, "joined")


def mp_fork():
    mp_process("mp_fork", "fork")


def mp_spawn():
    mp_process("mp_spawn", "spawn")


def mp_forkserver():
    mp_process("mp_forkserver", "forkserver")
    # It waits for more until its creator's end of a pipe is closed.
    from multiprocessing import forkserver
    forkserver._forkserver._stop()
    stop("mp_forkserver", "stopped")


def mp_pool():
    with multiprocessing.get_context("fork").Pool(3) as pool:
        pool.map(bytearray, [MiB] * 12, chunksize=1)
        stop("mp_pool", "mapped")
        pool.apply(worker_grows, ("mp_pool", "in-worker"))
        kept = pool.map(bytes, [MiB] * 6)
        stop("mp_pool", "kept")
    del kept
    pool.join()
    stop("mp_pool", "ended")


def mp_shared_memory():
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4 * MiB)
    touch(memory.buf, 0, 2 * MiB)
    stop("mp_shared_memory", "written")

    def child():
        same = multiprocessing.shared_memory.SharedMemory(name=memory.name)
        read(same.buf)
        touch(same.buf, 2 * MiB, 3 * MiB)
        stop("mp_shared_memory", "child-wrote")
        same.close()

    reap(in_child(child))
    read(memory.buf)
    stop("mp_shared_memory", "read")
    memory.close()
    stop("mp_shared_memory", "closed")
    memory.unlink()


async def coroutine(number):
    data = bytearray(200_000)
    await asyncio.sleep(0)
    data.extend(bytes(100_000))
    await asyncio.sleep(0.001 * (number % 3))
    return data


async def many_tasks():
    kept = await asyncio.gather(*(coroutine(n) for n in range(100)))
    stop("event_loop", "gathered")
    loop = asyncio.get_running_loop()
    more = await asyncio.gather(*(loop.run_in_executor(None, bytearray, MiB) for _ in range(8)))
    stop("event_loop", "from-executor")
    process = await asyncio.create_subprocess_exec(*itself("event_loop"))
    await process.wait()
    stop("event_loop", "subprocess")
    return len(kept) + len(more)


def event_loop():
    asyncio.run(many_tasks())
    stop("event_loop", "closed")
