"""A web application whose requests wait in each of four nested functions, so that requests at one
time interleave. To be served by gunicorn: nested_service:app. Answers with the worker's pid. On
stderr: `serving PID` when a worker has imported it.
"""
import os
import sys

import gevent

PAUSE = 0.02


def app(environ, start_response):
    body = b"%d" % handle(PAUSE)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def handle(pause):
    gevent.sleep(pause)
    return load(pause)


def load(pause):
    gevent.sleep(pause)
    pid = parse(pause)
    gevent.sleep(pause)
    return pid


def parse(pause):
    gevent.sleep(pause)
    return store(pause)


def store(pause):
    gevent.sleep(pause)
    return os.getpid()


sys.stderr.write("serving %d\n" % os.getpid())
sys.stderr.flush()
