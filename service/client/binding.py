"""Methods of both clients out of one definition of a call.

A call is a function that returns what is to be asked: ``def recording(recording: str) ->
Call[RecordingInfo]``. :func:`blocking` makes the method of :class:`isogloss.Client` of it,
:func:`awaiting` that of :class:`isogloss.AsyncClient`; both have its parameters, its docstring and
the type of its result. A call that begins a job comes to a :class:`Started`; :func:`starting` and
:func:`starting_async` give its handle. Work that needs a connection for many calls is a function
whose first parameter is one: it is a method as it stands, and :func:`in_thread` makes the other.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Concatenate, ParamSpec, TypeVar, get_args

from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.job import AsyncJob, Job
from isogloss.service.client.operations import Started
from isogloss.service.transport.call import Call, Feed

P = ParamSpec("P")
T = TypeVar("T")
WrappedT = TypeVar("WrappedT")


def blocking(call: Callable[P, Call[T]]) -> Callable[Concatenate[Connection, P], T]:
    """Make a method that makes the call and returns what it comes to."""

    @functools.wraps(call)
    def method(connection: Connection, *args: P.args, **kwargs: P.kwargs) -> T:
        return connection.run(call(*args, **kwargs))

    return _described(method, call, _last(call))


def awaiting(
    call: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncConnection, P], Coroutine[None, None, T]]:
    """Make an asynchronous method that makes the call and returns what it comes to."""

    @functools.wraps(call)
    async def method(connection: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> T:
        return await connection.run(call(*args, **kwargs))

    return _described(method, call, _last(call))


def starting(call: Callable[P, Call[Started[T]]]) -> Callable[Concatenate[Connection, P], Job[T]]:
    """Make a method that begins a job and returns its handle."""

    @functools.wraps(call)
    def method(connection: Connection, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        return Job(connection, connection.run(call(*args, **kwargs)))

    return _described(method, call, Job[_made(call)])


def starting_async(
    call: Callable[P, Call[Started[T]]],
) -> Callable[Concatenate[AsyncConnection, P], Coroutine[None, None, AsyncJob[T]]]:
    """Make an asynchronous method that begins a job and returns its handle."""

    @functools.wraps(call)
    async def method(connection: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> AsyncJob[T]:
        return AsyncJob(connection, await connection.run(call(*args, **kwargs)))

    return _described(method, call, AsyncJob[_made(call)])


def yielding(call: Callable[P, Feed[T]]) -> Callable[Concatenate[Connection, P], Iterator[T]]:
    """Make a method that yields what the call gives."""

    @functools.wraps(call)
    def method(connection: Connection, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return connection.iterate(call(*args, **kwargs))

    return _described(method, call, Iterator)


def yielding_async(
    call: Callable[P, Feed[T]],
) -> Callable[Concatenate[AsyncConnection, P], AsyncIterator[T]]:
    """Make a method that yields what the call gives, to be iterated over with ``async for``."""

    @functools.wraps(call)
    def method(connection: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return connection.iterate(call(*args, **kwargs))

    return _described(method, call, AsyncIterator)


def in_thread(
    work: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[AsyncConnection, P], Coroutine[None, None, T]]:
    """Make an asynchronous method that does blocking work in a thread.

    When the task is cancelled, the work ends at its next call.
    """
    return wrapping(work, _same)


def wrapping(
    work: Callable[Concatenate[Connection, P], T], wrap: Callable[[T], WrappedT]
) -> Callable[Concatenate[AsyncConnection, P], Coroutine[None, None, WrappedT]]:
    """Make an asynchronous method that does blocking work in a thread and wraps what it made."""

    @functools.wraps(work)
    async def method(connection: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> WrappedT:
        inner = connection._blocking()
        try:
            return wrap(await asyncio.to_thread(work, inner, *args, **kwargs))
        except asyncio.CancelledError:
            inner._stop("the task that did this was cancelled")
            raise

    signature = inspect.signature(work)
    vars(method)["__signature__"] = signature
    return method


def _same(made: T) -> T:
    return made


def _described(method: WrappedT, call: Callable[P, object], returns: object) -> WrappedT:
    """Let ``help`` and ``inspect.signature`` show a method's parameters, ``self`` among them."""
    shown = inspect.signature(call)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [this, *shown.parameters.values()]
    vars(method)["__signature__"] = shown.replace(parameters=parameters, return_annotation=returns)
    return method


def _last(call: Callable[P, Call[T]]) -> object:
    """Return the type that a call comes to, of its annotation."""
    return get_args(inspect.signature(call).return_annotation)[-1]


def _made(call: Callable[P, Call[Started[T]]]) -> object:
    """Return the type that a call's job makes, of its annotation."""
    return get_args(_last(call))[0]
