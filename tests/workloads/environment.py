"""Prints what a program can see of how it was started, as JSON: import path, modules, environment, sitecustomize."""
import json
import os
import sys

before = sorted(sys.modules)
custom = sys.modules.get("sitecustomize")
print(json.dumps({
    "path": sys.path,
    "modules": before,
    "environment": dict(os.environ),
    "sitecustomize": getattr(custom, "__file__", None),
    "found_by": [type(finder).__name__ for finder in sys.meta_path if not isinstance(finder, type)],
    "profile": "profile" in dir(__builtins__),
    "flags": list(sys.flags),
}))
