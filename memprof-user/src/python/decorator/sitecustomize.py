"""Provides `profile` to the programs that `memprof-ebpf run` starts, and steps aside.

Python imports the first sitecustomize on its path at start-up. This one stands first, by
PYTHONPATH, while the tracer runs; it then has Python import the one that it hides, if there is
one. Any Python can run this file: which of them can run the other is decided here.
"""

import sys


def _install():
    here = __file__.rpartition("/")[0]
    try:
        if sys.version_info >= (3, 6):
            import memprof_ebpf_profile

            memprof_ebpf_profile.install()
        if sys.version_info >= (3, 8):
            from posix import access

            # Only where --func asks for functions.
            if access(here + "/memprof_ebpf_functions.py", 0):
                import memprof_ebpf_functions

                memprof_ebpf_functions.install()
    finally:
        sys.path[:] = [entry for entry in sys.path if entry != here]
        sys.path_importer_cache.pop(here, None)


_install()
# The import of the one that we hide: it takes this one's place, or fails as it would have failed.
del sys.modules["sitecustomize"]
import sitecustomize  # noqa: E402, F401
