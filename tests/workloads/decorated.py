"""Functions that are decorated for mprof (`mprof run decorated.py`): outer calls inner, which makes 20 MiB resident.

They last long enough for mprof to sample them many times; short does not.
"""
import time

MiB = 1 << 20
HELD_SECONDS = 0.3


@profile  # noqa: F821: mprof provides it
def inner():
    block = b"i" * (20 * MiB)
    time.sleep(HELD_SECONDS)
    return block


@profile  # noqa: F821
def outer():
    block = inner()
    time.sleep(HELD_SECONDS)
    return len(block)


@profile  # noqa: F821
def short():
    return 1


assert outer() == 20 * MiB
assert short() == 1
