"""Allocates in a sub-interpreter, and says what RSS had to say of it."""
import json
import os

INSIDE = '''
import json, os
MiB = 1 << 20
KEEP = []

def rss():
    with open("/proc/self/statm", "rb", buffering=0) as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def in_subinterpreter():
    before = rss()
    KEEP.append(b"s" * (24 * MiB))
    return rss() - before

print(json.dumps({"pid": os.getpid(), "truth": {"in_subinterpreter": in_subinterpreter()}}), flush=True)
'''


def run_inside():
    try:
        import _interpreters

        _interpreters.exec(_interpreters.create(), INSIDE)
    except ImportError:
        try:
            import _xxsubinterpreters

            _xxsubinterpreters.run_string(_xxsubinterpreters.create(), INSIDE)
        except ImportError:  # 3.7 and older
            import _testcapi

            _testcapi.run_in_subinterp(INSIDE)


def main():
    run_inside()


if __name__ == "__main__":
    main()
