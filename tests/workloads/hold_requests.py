"""A gunicorn configuration that holds requests of service.py where a test wants them.

In the folder $HOLD_REQUESTS `ready.PID` appears when a worker serves, and `leak.PID.N` for each answer of
/leak. A request that comes to wait() in first() while `hold.first` exists leaves `first.PID.N` there and
stays until the folder has no `hold.*` at all; the same with second(). Other requests do not wait.
"""
import itertools
import os
import sys

FOLDER = os.environ["HOLD_REQUESTS"]
NUMBERS = itertools.count()


def mark(what):
    open(os.path.join(FOLDER, "%s.%d.%d" % (what, os.getpid(), next(NUMBERS))), "w").close()


def any_hold():
    return any(name.startswith("hold.") for name in os.listdir(FOLDER))


def wait(seconds):
    import gevent

    stage = sys._getframe(1).f_code.co_name
    if not os.path.exists(os.path.join(FOLDER, "hold." + stage)):
        return
    mark(stage)
    while any_hold():
        gevent.sleep(0.02)


def post_worker_init(worker):
    import service

    service.wait = wait
    build = service.app.view_functions["leak"]

    def leak():
        answer = build()
        mark("leak")
        return answer

    service.app.view_functions["leak"] = leak
    open(os.path.join(FOLDER, "ready.%d" % os.getpid()), "w").close()
