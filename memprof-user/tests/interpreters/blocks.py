"""Every source file of the standard library, or below the folders named, as Python itself reads it:
one line of JSON a file with its path, the number of its lines, a CRC-32 of its text, and name, first
and last line of each function and class."""
import ast, json, os, sys, tokenize, warnings, zlib

warnings.simplefilter("ignore")


def describe(path):
    with tokenize.open(path) as f:
        text = f.read()
    blocks = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = min([node.lineno] + [decorator.lineno for decorator in node.decorator_list])
            blocks.append([node.name, first, node.end_lineno])
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    crc = zlib.crc32("\n".join(lines).encode("utf-8"))
    return {"path": path, "lines": len(lines), "crc": crc, "blocks": blocks}


for root in sys.argv[1:] or [os.path.dirname(os.__file__)]:
    for folder, folders, names in os.walk(root):
        # What else is installed differs by machine.
        folders[:] = [name for name in folders if name not in ("site-packages", "dist-packages")]
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".py") and not os.path.islink(path):
                try:
                    print(json.dumps(describe(path)))
                except (SyntaxError, UnicodeError, ValueError, RecursionError, MemoryError):
                    pass  # Not a source that this interpreter can run.
