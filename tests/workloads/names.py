"""Functions whose names and files are meant to harm whoever prints them; ASCII source, any locale."""
import json
import os

MiB = 1 << 20
KEEP = []
NAMES = [
    u"gr\u00f6\u00dfe",  # Latin-1
    u"\u6570\u3048\u308b",  # two bytes a character
    u"\U0001d4d0\U0001d4d1",  # four
    u"a;b c 123",
    u"\x1b[31mred\x07\n\r\t",
    u"\u202eflipped",
    u"<script>alert(1)</script>&\"'",
    u"n" * 5000,
    u"",
]


def main():
    for number, name in enumerate(NAMES):
        code = compile("def f():\n    KEEP.append(b'n' * (2 * MiB))", u"/dir %d/%s.py" % (number, name.replace(u"\0", u"")), "exec")
        scope = {"KEEP": KEEP, "MiB": MiB}
        exec(code, scope)
        function = scope["f"].__code__
        fields = "argcount kwonlyargcount nlocals stacksize flags code consts names varnames filename".split()
        if hasattr(function, "replace"):
            changed = function.replace(co_name=name, **({"co_qualname": name} if hasattr(function, "co_qualname") else {}))
        else:  # 3.7 and older
            values = [getattr(function, "co_" + field) for field in fields]
            changed = type(function)(*(values + [name, function.co_firstlineno, function.co_lnotab]))
        scope["f"].__code__ = changed
        scope["f"]()
    print(json.dumps({"pid": os.getpid(), "truth": {"main": 2 * MiB * len(NAMES)}}))


if __name__ == "__main__":
    main()
