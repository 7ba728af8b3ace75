"""A photo service in miniature, for `cargo xtask demo`: a master loads an index and forks workers that serve HTTP.

Usage: python photos.py [--workers N] [--seconds S]
Standard library only, CPython 3.6 and later; loopback only.

Three things grow, and a memory total cannot tell them apart:
  remember_visitor  leaks: a cache without a limit
  decode_photo      needs much and gives all of it back
  count_view        writes into what the master had loaded, so that pages shared since fork become the worker's own
"""
import argparse
import http.client
import http.server
import mmap
import os
import signal
import socket
import time
import urllib.parse

MiB = 1 << 20
PHOTOS = 120000
ROW = b"\xff" * (64 << 10)
VISITORS = {}
INDEX = []


def load_index():
    INDEX.extend({"id": i, "views": i + 1000} for i in range(PHOTOS))


class Photos(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        body = self.show_photo(int(url.path.rsplit("/", 1)[1]), url.query)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def show_photo(self, photo, visitor):
        remember_visitor(visitor)
        pixels = decode_photo()
        count_view(photo)
        return b"%d pixels\n" % pixels

    def log_message(self, *_):
        pass


def remember_visitor(visitor):
    VISITORS[visitor] = visitor.encode().ljust(MiB, b".")


def decode_photo():
    # A mapping of its own: malloc would hand memory of photos that were let go to the next visitor, and then it is
    # decode_photo that touched what remember_visitor holds.
    with mmap.mmap(-1, 12 * MiB) as pixels:
        while pixels.tell() < len(pixels):
            pixels.write(ROW)
        return len(pixels)


def count_view(photo):
    for entry in INDEX[photo % PHOTOS::97]:
        entry["views"] += 1


class Prefork(http.server.HTTPServer):
    def __init__(self, listener):
        super().__init__(listener.getsockname(), Photos, bind_and_activate=False)
        self.socket.close()
        self.socket = listener


def serve(listener):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Prefork(listener).serve_forever(poll_interval=3600)


def visit(address, seconds):
    """The visitors: one request after the other, each by a new one."""
    end = time.monotonic() + seconds
    visits = 0
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(*address, timeout=30)
        connection.request("GET", "/photo/%d?visitor-%d" % (visits, visits))
        connection.getresponse().read()
        connection.close()
        visits += 1
        time.sleep(0.05)
    return visits


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments = arguments.parse_args()
    load_index()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    workers = []
    for _ in range(arguments.workers):
        pid = os.fork()
        if pid == 0:
            serve(listener)
        workers.append(pid)
    try:
        visits = visit(listener.getsockname(), arguments.seconds)
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        for pid in workers:
            os.waitpid(pid, 0)
    print("%d visits; remember_visitor kept %d MiB of them" % (visits, visits))


if __name__ == "__main__":
    main()
