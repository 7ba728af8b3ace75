"""Decorated callables behave as bare ones do: signatures, kinds, values sent and thrown, descriptors. Fails if not."""
import asyncio
import inspect
import types


def same_kind(decorated, bare):
    kinds = [inspect.isfunction, inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction]
    assert [kind(decorated) for kind in kinds] == [kind(bare) for kind in kinds], decorated
    assert inspect.signature(decorated) == inspect.signature(bare), decorated
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(decorated, name) == getattr(bare, name), (decorated, name)
    assert decorated.__wrapped__ is bare and decorated.own is bare.own


def decorate(function):
    function.own = object()
    decorated = profile(function)
    same_kind(decorated, function)
    return decorated


@decorate
def plain(a, b=2, *rest, c: int = 3, **more) -> int:
    """Adds."""
    return a + b + c + sum(rest) + sum(more.values())


@decorate
def generator():
    got = yield 1
    try:
        yield got
    except ValueError:
        yield "caught"
    return 7


@decorate
async def coroutine(x):
    await asyncio.sleep(0.001)
    if x == 3:
        raise KeyError(x)
    return x


@decorate
async def async_generator():
    for i in range(3):
        try:
            got = yield i
            assert got in (None, "sent")
        except KeyError:
            yield "caught"


@profile
@types.coroutine
def old_coroutine():
    yield
    return "old"


class Thing:
    @profile
    @classmethod
    def made(cls):
        return cls

    @classmethod
    @profile
    def made_too(cls):
        return cls

    @profile
    @staticmethod
    def static(x):
        return x

    @profile
    def fails(self):
        raise KeyError(self)

    @profile
    @property
    def value(self):
        """A property."""
        return 5


@profile
class Unchanged:
    pass


@profile(precision=4)
def with_options():
    return "options"


def delegates():
    return (yield from generator())


async def main():
    steps = async_generator()
    assert await steps.asend(None) == 0
    assert await steps.asend("sent") == 1
    assert await steps.athrow(KeyError()) == "caught"
    assert await steps.__anext__() == 2
    await steps.aclose()
    assert [x async for x in async_generator()] == [0, 1, 2]
    results = await asyncio.gather(*(coroutine(i) for i in range(5)), return_exceptions=True)
    assert results[:3] == [0, 1, 2] and isinstance(results[3], KeyError), results
    assert await old_coroutine() == "old"
    task = asyncio.ensure_future(coroutine(1))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError("not cancelled")


assert plain(1, 2, 3, c=4, d=5) == 15
own = generator()
assert isinstance(own, types.GeneratorType) and own.__name__ == "generator"
assert next(own) == 1 and own.send(5) == 5 and own.throw(ValueError()) == "caught"
own.close()
outer = delegates()
assert next(outer) == 1 and next(outer) is None
try:
    next(outer)
except StopIteration as end:
    assert end.value == 7
assert Thing.made() is Thing.made_too() is Thing().made() is Thing and Thing.static(4) == 4
assert Thing().value == 5 and Thing.value.__doc__ == "A property."
try:
    Thing().fails()
except KeyError as error:
    assert isinstance(error.args[0], Thing)
assert isinstance(Unchanged, type) and with_options() == "options"
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
with profile.timestamp("block"):
    pass
with profile:
    pass
print("as they were")
