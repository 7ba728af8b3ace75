"""Touches fresh pages, and says by which chain of callers: what a stack must be, frame by frame.

A module for the workloads beside it. Runs on 3.6 and later.
"""
import json
import mmap
import os
import sys

PAGES = 16
DATA = b"x" * (PAGES * mmap.PAGESIZE)
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
KEEP = []
# Bytes by (is in a greenlet, frames with the outermost first).
TOLD = {}


# True in a greenlet that is not its thread's main one; whoever imports greenlet says how to ask.
ASK = {"is_greenlet": lambda: False}


def touch():
    """Makes PAGES pages resident, all of them by its last line."""
    area = mmap.mmap(-1, len(DATA), PRIVATE)
    KEEP.append(area)
    frame = sys._getframe()
    tell(frame, frame.f_lineno + 1)
    area.write(DATA)


def touch_by(fill):
    """The same by a call that fills a buffer."""
    area = mmap.mmap(-1, len(DATA), PRIVATE)
    KEEP.append(area)
    frame = sys._getframe()
    tell(frame, frame.f_lineno + 1)
    fill(area)


def tell(frame, line):
    chain = [shown(frame, line)]
    while frame.f_back is not None:
        frame = frame.f_back
        chain.append(shown(frame, frame.f_lineno))
    chain.reverse()
    key = (ASK["is_greenlet"](), tuple(chain))
    TOLD[key] = TOLD.get(key, 0) + len(DATA)


def shown(frame, line):
    code = frame.f_code
    return "%s (%s:%d)" % (getattr(code, "co_qualname", code.co_name), code.co_filename, line)


def say():
    """Prints what this process has touched since it last did."""
    stacks = [{"greenlet": greenlet, "frames": frames, "bytes": size}
              for (greenlet, frames), size in sorted(TOLD.items())]
    TOLD.clear()
    os.write(1, (json.dumps({"pid": os.getpid(), "stacks": stacks}) + "\n").encode())
