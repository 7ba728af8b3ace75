"""An application for uWSGI that grows: each request touches pages, keeps them, and tells in its
answer by which chain of callers.
"""
import json
import os

import chains


def application(environment, start_response):
    chains.TOLD.clear()
    grow(3)
    stacks = [{"greenlet": greenlet, "frames": frames, "bytes": size}
              for (greenlet, frames), size in chains.TOLD.items()]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "stacks": stacks}).encode()]


def grow(depth):
    if depth:
        grow(depth - 1)
    else:
        chains.touch()
