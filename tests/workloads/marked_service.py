"""A service of four decorated functions, each inside the other. Under `memprof-ebpf run`: `profile` is bare.

Prefork workers:  gunicorn -w 2 [-k gevent] -b 127.0.0.1:0 marked_service:app
One process:      python marked_service.py      (needs gevent; prints the address)
With IMPORT_PROFILE in the environment `profile` comes from memory_profiler. Each answer is the worker's pid.
While the file $HOLD exists requests wait in the innermost function, each beside a file $HOLD.PID.N of its own.
"""
import itertools
import mmap
import os
import time

if os.environ.get("IMPORT_PROFILE"):
    from memory_profiler import profile

MiB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
HOLD = os.environ["HOLD"]
NUMBERS = itertools.count()
KEPT = []


def touched(mib):
    block = mmap.mmap(-1, mib * MiB)
    for at in range(0, mib * MiB, PAGE):
        block[at] = 1
    return block


@profile
def handle():
    return first()


@profile
def first():
    block = touched(2)
    answer = second()
    block.close()
    return answer


@profile
def second():
    KEPT.append(touched(1))
    return third()


@profile
def third():
    if os.path.exists(HOLD):
        open("%s.%d.%d" % (HOLD, os.getpid(), next(NUMBERS)), "w").close()
    while os.path.exists(HOLD):
        time.sleep(0.02)
    return "%d\n" % os.getpid()


def app(environ, start_response):
    body = handle().encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()
    from gevent.pywsgi import WSGIServer

    server = WSGIServer(("127.0.0.1", 0), app, log=None)
    server.start()
    print("Listening at: http://127.0.0.1:%d" % server.server_port, flush=True)
    server.serve_forever()
