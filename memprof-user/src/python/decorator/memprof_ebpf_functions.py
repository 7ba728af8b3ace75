"""`--func`: tells the tracer of the functions that it looks for, before they are defined.

An audit hook sees each code object that is about to be executed: a script, a module, a string.
What functions it will make is known then: their code objects are among its constants. Where one
has a name that is looked for, the tracer is told its address, and this waits until its calls are
watched, so that the first one is marked too.

The tracer is told by a system call that fails and does nothing, as in memprof_ebpf_profile.py. It
answers with a file, and holds a pipe open while it runs: nobody waits for a tracer that has gone,
and not for long for one that has stopped.

What is imported here is what the interpreter has anyway. Python 3.8 and later.
"""

import sys
from _weakref import ref
from posix import O_NONBLOCK, O_WRONLY, access, close, getpid, getppid, open
from time import monotonic, monotonic_ns, sleep

_FUNCTION_PATH = b"/memprof-ebpf/f/"
_ANSWERS = __file__.rpartition("/")[0] + "/answers"

# What is looked for, the last parts of names: whole ones, and how others begin and end.
_WHOLE = []
_PARTS = []

# Whose child this is if it is traced; 0: whatever it is the child of.
_PARENT = 0

# Seconds that the tracer may take, half as many after each answer that did not come.
_patience = 4.0

# Seconds between two looks for the answer, and looks between two for the tracer.
_PAUSE = 0.0001
_LOOKS = 100

# Flags of code objects (Include/cpython/code.h): of a function, not of a module or a class.
_OF_FUNCTION = 0x1 | 0x2

# Code objects whose functions the tracer knows, by address.
_known = {}

# Bits of a token that are a time in nanoseconds, which wraps after 73 minutes. A pid has the others.
_TIME_BITS = 42


def _is_wanted(name):
    if name in _WHOLE:
        return True
    return any(name.startswith(begin) and name.endswith(end) for begin, end in _PARTS)


_Code = type(_is_wanted.__code__)


def _functions(code):
    """The functions that executing this makes, now or later: code objects and their names."""
    found = []
    todo = [(code, "")]
    while todo:
        outer, prefix = todo.pop()
        for inner in outer.co_consts:
            if type(inner) is not _Code:
                continue
            name = inner.co_name
            qualname = getattr(inner, "co_qualname", None) or prefix + name
            is_function = inner.co_flags & _OF_FUNCTION == _OF_FUNCTION
            if is_function and _is_wanted(name):
                found.append((inner, qualname))
            todo.append((inner, qualname + (".<locals>." if is_function else ".")))
    return found


def _module(frame):
    """What the module is called that this code is executed for; "" where that cannot be told."""
    if frame is None:
        return "__main__"
    own = frame.f_globals
    name = frame.f_code.co_name
    if name == "_call_with_frames_removed":
        # The import system's: exec, the code, the module's namespace.
        own = frame.f_locals["args"][1]
    elif name == "_run_code":
        # runpy's.
        own = frame.f_locals["run_globals"]
    return str(own.get("__name__", ""))


def _is_traced():
    if _PARENT and getppid() != _PARENT:
        return False
    try:
        # There is a reader.
        close(open(_ANSWERS + "/pipe", O_WRONLY | O_NONBLOCK))
    except OSError:
        return False
    return True


def _new_token():
    """Names one wait: another thread has another time, a forked process another pid."""
    return getpid() << _TIME_BITS | monotonic_ns() & (1 << _TIME_BITS) - 1


def _tell(code, frame):
    """Tells of the functions that executing this makes; what to wait for, if there is something."""
    found = _functions(code)
    if not found:
        return None
    known = _known.get(id(code))
    if known is not None and known() is code:
        return None
    if not _is_traced():
        return None
    try:
        module = _module(frame)
    except (LookupError, AttributeError, TypeError):
        module = ""
    token = _new_token()
    for left, (function, qualname) in zip(range(len(found) - 1, -1, -1), found):
        text = "%x:%x:%s:%s" % (id(function), 0 if left else token, module, qualname)
        access(_FUNCTION_PATH + text.replace("\0", "?").encode("utf-8", "replace"), 0)
    _known[id(code)] = ref(code)
    return "%s/%x" % (_ANSWERS, token)


def _wait(answer):
    global _patience
    give_up = monotonic() + _patience
    looks = 0
    while not access(answer, 0):
        looks += 1
        if looks % _LOOKS == 0:
            if not _is_traced():
                return
            if monotonic() > give_up:
                _patience /= 2
                return
        sleep(_PAUSE)


def _hook(event, arguments):
    if event != "exec":
        return
    code = arguments[0]
    if type(code) is not _Code:
        return
    try:
        answer = _tell(code, sys._getframe().f_back)
    except Exception:
        # Whatever it is: the program must not know.
        return
    # Outside: what a signal's handler raises meanwhile is the program's.
    if answer is not None:
        _wait(answer)


def install():
    """Tells of functions from now on."""
    sys.addaudithook(_hook)
