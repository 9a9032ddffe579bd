"""Make the methods of both clients from one definition of each call.

A call is a function that returns the request to make: ``def recording(recording: str) ->
Call[RecordingInfo]``. :func:`blocking` makes the method of :class:`isogloss.Client` from it, and
:func:`awaiting` that of :class:`isogloss.AsyncClient`. Both methods have the function's parameters
and docstring, and return its type of result.

A call that begins a job has a :class:`Started` as its result; :func:`starting` and
:func:`starting_async` make methods that return a handle on the job instead. A function that makes
many calls takes a connection as its first parameter: :func:`working` makes the method of the
blocking client from it, and :func:`in_thread` the asynchronous one. The method's signature and
docstring, as ``help`` and ``inspect.signature`` show them, are without the connection.
"""

import asyncio
import functools
import inspect
import re
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar, get_args

from isogloss.errors import missing_extra
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.job import AsyncJob, Job
from isogloss.service.client.operations import Started
from isogloss.service.transport.call import Call, Feed, asking
from isogloss.service.values.arguments import check_argument

P = ParamSpec("P")
T = TypeVar("T")
WrappedT = TypeVar("WrappedT")

_PATHS = frozenset({"directory", "root"})


def blocking(call: Callable[P, Call[T]]) -> Callable[Concatenate[Connection, P], T]:
    """Make a method that makes the call, waits for its answer, and returns the result."""

    @functools.wraps(call)
    def method(connection: Connection, *args: P.args, **kwargs: P.kwargs) -> T:
        return connection.run(_asked(call, *args, **kwargs))

    return _described(method, call, _last(call))


def awaiting(
    call: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncConnection, P], Coroutine[None, None, T]]:
    """Make an asynchronous method that makes the call and returns its result."""

    @functools.wraps(call)
    async def method(connection: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> T:
        return await connection.run(_asked(call, *args, **kwargs))

    return _described(method, call, _last(call))


def starting(call: Callable[P, Call[Started[T]]]) -> Callable[Concatenate[Connection, P], Job[T]]:
    """Make a method that begins a job and returns its handle."""

    @functools.wraps(call)
    def method(connection: Connection, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        return Job(connection, connection.run(_asked(call, *args, **kwargs)))

    return _described(method, call, Job[_made(call)])


def starting_async(
    call: Callable[P, Call[Started[T]]],
) -> Callable[Concatenate[AsyncConnection, P], Coroutine[None, None, AsyncJob[T]]]:
    """Make an asynchronous method that begins a job and returns its handle."""

    @functools.wraps(call)
    async def method(connection: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> AsyncJob[T]:
        return AsyncJob(connection, await connection.run(_asked(call, *args, **kwargs)))

    return _described(method, call, AsyncJob[_made(call)])


def yielding(call: Callable[P, Feed[T]]) -> Callable[Concatenate[Connection, P], Iterator[T]]:
    """Make a method that makes a call with a stream of answers and yields them."""

    @functools.wraps(call)
    def method(connection: Connection, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return connection.iterate(_asked(call, *args, **kwargs))

    return _described(method, call, Iterator)


def yielding_async(
    call: Callable[P, Feed[T]],
) -> Callable[Concatenate[AsyncConnection, P], AsyncIterator[T]]:
    """Make an asynchronous method that yields a call's answers, for use with ``async for``."""

    @functools.wraps(call)
    def method(connection: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return connection.iterate(_asked(call, *args, **kwargs))

    return _described(method, call, AsyncIterator)


def working(
    work: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Connection, P], T]:
    """Make a method of a function that makes many calls over a connection."""

    @functools.wraps(work)
    def method(connection: Connection, *args: P.args, **kwargs: P.kwargs) -> T:
        _check(work, (connection, *args), kwargs)
        with _telling_of_extras(work):
            return work(connection, *args, **kwargs)

    return _without_connection(method, work, inspect.signature(work).return_annotation)


def in_thread(
    work: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[AsyncConnection, P], Coroutine[None, None, T]]:
    """Make an asynchronous method that runs a blocking function in a thread.

    When the task that awaits the method is cancelled, the function's next call to the store raises
    an error, which ends it.
    """
    return wrapping(work, _same)


def wrapping(
    work: Callable[Concatenate[Connection, P], T], wrap: Callable[[T], WrappedT]
) -> Callable[Concatenate[AsyncConnection, P], Coroutine[None, None, WrappedT]]:
    """Make an asynchronous method that runs a function in a thread and wraps its result."""

    @functools.wraps(work)
    async def method(connection: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> WrappedT:
        _check(work, (connection, *args), kwargs)
        inner = connection._blocking()
        try:
            with _telling_of_extras(work):
                return wrap(await asyncio.to_thread(work, inner, *args, **kwargs))
        except asyncio.CancelledError:
            inner._stop("the task that did this was cancelled")
            raise

    made = wrap if isinstance(wrap, type) else inspect.signature(work).return_annotation
    return _without_connection(method, work, made)


def _asked(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make a call of what the caller gave, which is checked first."""
    _check(call, args, kwargs)
    return asking(call, *args, **kwargs)


def _check(
    work: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
) -> None:
    """Refuse arguments that no message can hold; paths are the file system's to refuse."""
    names = [*inspect.signature(work).parameters]
    for name, value in (*zip(names, args, strict=False), *kwargs.items()):
        if name not in _PATHS:
            check_argument(name, value)


@contextmanager
def _telling_of_extras(work: Callable[..., object]) -> Generator[None]:
    """Raise MissingExtra where a package is missing that only a complete installation has."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = missing_extra(work.__name__, error)
        if missing is None:
            raise
        raise missing from error


def _same(made: T) -> T:
    return made


def _without_connection(method: WrappedT, work: Callable[..., object], returns: object) -> WrappedT:
    """Give a method the signature and docstring of a function, without the connection."""
    shown = inspect.signature(work)
    first, *rest = shown.parameters.values()
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    attributes = vars(method)
    attributes["__signature__"] = shown.replace(parameters=[this, *rest], return_annotation=returns)
    lines = re.compile(rf" +{first.name}: .*\n(?: {{9,}}\S.*\n)*")
    method.__doc__ = lines.sub("", inspect.getdoc(work) or "", count=1)
    return method


def _described(method: WrappedT, call: Callable[P, object], returns: object) -> WrappedT:
    """Give a method the signature that ``help`` and ``inspect.signature`` show, with ``self``."""
    shown = inspect.signature(call)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [this, *shown.parameters.values()]
    vars(method)["__signature__"] = shown.replace(parameters=parameters, return_annotation=returns)
    return method


def _last(call: Callable[P, Call[T]]) -> object:
    """Return the type of a call's result, read from its annotation."""
    return get_args(inspect.signature(call).return_annotation)[-1]


def _made(call: Callable[P, Call[Started[T]]]) -> object:
    """Return the type of what a call's job makes, read from the call's annotation."""
    return get_args(_last(call))[0]
