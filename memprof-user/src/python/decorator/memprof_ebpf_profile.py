"""`@profile`: tells the tracer when a call of a decorated function begins and ends.

It does so by system calls that fail and do nothing, which the tracer sees: isatty of a
descriptor that cannot be, and access of a path that cannot be, once for each name. Without a
tracer that is all they are. memprof-ebpf/src/probes/mark.rs is the other side.

What is imported here at start-up is what the interpreter has anyway.
"""

import sys
from posix import access, isatty

_modules = sys.modules

# Descriptors: what happens in the four highest of 32 bits, a number in the others.
_NUMBER = (1 << 28) - 1
_BEGIN, _RESUME, _END, _LANE = ((what << 28) - (1 << 32) for what in (0x8, 0x9, 0xA, 0xB))
_NAME_PATH = b"/memprof-ebpf/@/"

# Flags of code objects (Include/cpython/code.h).
_CO_GENERATOR = 0x20
_CO_COROUTINE = 0x80
_CO_ITERABLE_COROUTINE = 0x100
_CO_ASYNC_GENERATOR = 0x200

# The number of each name. It is the same in forked children.
_numbers = {}


def _count():
    # The interpreters of one process have a module each: they begin at different numbers.
    number = id(_numbers) >> 4
    while True:
        yield number & _NUMBER
        number += 1


_next_number = _count().__next__


class _Marks:
    """The descriptors of one function."""

    __slots__ = ("begin", "resume", "end")

    def __init__(self, name):
        number = _numbers.get(name)
        if number is None:
            number = _numbers.setdefault(name, _next_number())
            text = "%x:%s" % (number, name.replace("\0", "?"))
            access(_NAME_PATH + text.encode("utf-8", "replace"), 0)
        self.begin = _BEGIN | number
        self.resume = _RESUME | number
        self.end = _END | number


def _lane():
    """The descriptor of the greenlet that runs: calls of one nest, those of two need not."""
    try:
        greenlet = _modules["greenlet"].getcurrent()
    except (KeyError, AttributeError):
        # Not imported, or only half.
        return _LANE
    if greenlet.parent is None:
        # The thread's own: what it called before greenlets came is on its lane too.
        return _LANE
    return _LANE | (id(greenlet) >> 4 & _NUMBER)


class _Running:
    """Marks a generator, a coroutine, or a step of an asynchronous generator while it runs.

    It is what the wrapper, which is of the same kind, delegates to.
    """

    __slots__ = ("_inner", "_next", "_marks")

    def __init__(self, inner, marks, goes_on=False):
        self._inner = inner
        self._next = marks.resume if goes_on else marks.begin
        self._marks = marks

    def _run(self, step, *arguments):
        begin = self._next
        marks = self._marks
        self._next = marks.resume
        if "greenlet" in _modules:
            lane = _lane()
            isatty(lane)
        else:
            lane = _LANE
        isatty(begin)
        try:
            return step(*arguments)
        finally:
            if "greenlet" in _modules:
                isatty(lane)
            isatty(marks.end)

    def __iter__(self):
        return self

    __await__ = __iter__

    def __next__(self):
        return self._run(self._inner.send, None)

    def send(self, value):
        return self._run(self._inner.send, value)

    def throw(self, *error):
        return self._run(self._inner.throw, *error)

    def close(self):
        return self._run(self._inner.close)


def _of_call(function, marks):
    begin, end = marks.begin, marks.end

    def wrapper(*args, **kwargs):
        if "greenlet" in _modules:
            lane = _lane()
            isatty(lane)
        else:
            lane = _LANE
        isatty(begin)
        try:
            return function(*args, **kwargs)
        finally:
            if "greenlet" in _modules:
                isatty(lane)
            isatty(end)

    return wrapper


def _of_generator(function, marks):
    def wrapper(*args, **kwargs):
        return (yield from _Running(function(*args, **kwargs), marks))

    return wrapper


def _of_coroutine(function, marks):
    async def wrapper(*args, **kwargs):
        return await _Running(function(*args, **kwargs), marks)

    return wrapper


def _of_async_generator(function, marks):
    async def wrapper(*args, **kwargs):
        generator = function(*args, **kwargs)
        step = _Running(generator.__anext__(), marks)
        try:
            while True:
                value = await step
                try:
                    step = generator.asend((yield value))
                except GeneratorExit:
                    await _Running(generator.aclose(), marks, goes_on=True)
                    raise
                except BaseException as error:
                    step = generator.athrow(error)
                step = _Running(step, marks, goes_on=True)
        except StopAsyncIteration:
            return

    return wrapper


def _wrapped(function):
    # Imported only here: it has a score of modules behind it.
    from functools import update_wrapper

    module = getattr(function, "__module__", None) or "?"
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    marks = _Marks("%s.%s" % (module, name))
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if flags & _CO_COROUTINE:
        wrapper = _of_coroutine(function, marks)
    elif flags & _CO_ASYNC_GENERATOR:
        wrapper = _of_async_generator(function, marks)
    elif flags & _CO_GENERATOR:
        wrapper = _of_generator(function, marks)
        if flags & _CO_ITERABLE_COROUTINE:
            from types import coroutine

            wrapper = coroutine(wrapper)
    else:
        wrapper = _of_call(function, marks)
    return update_wrapper(wrapper, function)


class _Block:
    """A block of code that is marked like a call."""

    __slots__ = ("_marks", "_lane")

    def __init__(self, name):
        self._marks = _Marks(name)

    def __enter__(self):
        self._lane = _lane()
        isatty(self._lane)
        isatty(self._marks.begin)

    def __exit__(self, *error):
        isatty(self._lane)
        isatty(self._marks.end)


class _Profile:
    """What mprof's and memory_profiler's `profile` are to a program."""

    def __call__(self, func=None, stream=None, precision=1, backend="psutil"):
        """Marks the calls of a function; the other arguments are memory_profiler's."""
        if func is None:
            return self
        if isinstance(func, (classmethod, staticmethod)):
            return type(func)(self(func.__func__))
        if isinstance(func, property):
            parts = [part and self(part) for part in (func.fget, func.fset, func.fdel)]
            return property(*parts, doc=func.__doc__)
        if isinstance(func, type) or not callable(func):
            return func
        return _wrapped(func)

    def timestamp(self, name="<block>"):
        """A context manager that marks the block of code within it."""
        return _Block("%s.%s" % (sys._getframe(1).f_globals.get("__name__", "?"), name))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def enable(self):
        pass

    disable = enable_by_count = disable_by_count = enable


class _Finder:
    """Finds memory_profiler, to put our `profile` into it; without one, there is one."""

    def find_spec(self, name, path=None, target=None):
        if name != "memory_profiler":
            return None
        for finder in sys.meta_path:
            find_spec = None if finder is self else getattr(finder, "find_spec", None)
            spec = find_spec and find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)
                return spec
        from _frozen_importlib import ModuleSpec

        return ModuleSpec(name, _Loader(None))


class _Loader:
    """Loads memory_profiler with its own loader, and makes its `profile` ours."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader and self._loader.create_module(spec)

    def exec_module(self, module):
        if self._loader is not None:
            # From here on it is as if it had been found without us.
            module.__loader__ = module.__spec__.loader = self._loader
            self._loader.exec_module(module)
        module.profile = _profile

    def __getattr__(self, name):
        return getattr(self._loader, name)


_profile = _Profile()


def install():
    """Makes `profile` a builtin, and memory_profiler's."""
    import builtins

    builtins.profile = _profile
    sys.meta_path.insert(0, _Finder())
