"""Code objects that live for one call, each at the address of the one before: what one function
allocates is never another's.

Three ways: functions by exec, modules that are executed under a file's name, and lambdas.
"""
import gc
import json
import os
import sys

MiB = 1 << 20
ROUNDS = 40
KEEP = []
# What the start left free in the heap, and resident, is taken first: a block then is growth.
FILL = 16


def by_exec(number):
    scope = {"KEEP": KEEP, "MiB": MiB}
    exec("def made_%03d():\n    KEEP.append(b'e' * MiB)\nmade_%03d()" % (number, number), scope)
    scope.clear()


def by_module(number):
    text = "def loaded_%03d():\n    KEEP.append(b'm' * MiB)\nloaded_%03d()" % (number, number)
    code = compile(text, "/plugins/plugin_%03d.py" % number, "exec")
    exec(code, {"KEEP": KEEP, "MiB": MiB})


def by_template(number):
    # As template engines do: the function outlives its module, is called by us, and is dropped.
    text = "def page_%03d():\n    KEEP.append(b't' * MiB)" % number
    scope = {"KEEP": KEEP, "MiB": MiB}
    exec(compile(text, "/templates/page.html", "exec"), scope)
    page = scope.pop("page_%03d" % number)
    call(page)


def call(page):
    page()


def main():
    gc.disable()
    KEEP.extend(b"f" * MiB for _ in range(FILL))
    names = []
    for make, name in ((by_exec, "made"), (by_module, "loaded"), (by_template, "page")):
        for number in range(ROUNDS):
            make(number)
            names.append("%s_%03d" % (name, number))
    print(json.dumps({"pid": os.getpid(), "truth": {name: MiB for name in names}}))


if __name__ == "__main__":
    main()
