"""What both clients inherit from: a transport, the process that may use it, and making calls."""

import os
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self, TypeVar

from isogloss.errors import Conflict
from isogloss.service.transport.call import Call, Feed
from isogloss.service.transport.protocols import AsyncTransport, Transport
from isogloss.service.transport.run import iterate, iterate_async, run, run_async

T = TypeVar("T")


class Connection:
    """Makes calls to a store's owner and waits for their answers.

    Several threads may use it at once.
    """

    def __init__(
        self, transport: Transport, *, timeout_s: float = 30.0, is_local: bool = False
    ) -> None:
        """Make calls over a transport; :func:`connect` makes the right one.

        Args:
            transport: sends the calls; closed together with the connection.
            timeout_s: how many seconds a call may take.
            is_local: whether this process owns the store.
        """
        self._transport = transport
        self._timeout_s = timeout_s
        self._is_local = is_local
        self._process = os.getpid()
        self._ended = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Path of the store, or address of the server."""
        return self._transport.address

    @property
    def is_local(self) -> bool:
        """Whether this process owns the store."""
        return self._is_local

    @property
    def timeout_s(self) -> float:
        """How many seconds a call may take."""
        return self._timeout_s

    @property
    def _usable_transport(self) -> Transport:
        """The transport, if it may still be used.

        Raises:
            Conflict: the client was closed, or made before this process was forked.
        """
        self._check_usable()
        return self._transport

    def _check_usable(self) -> None:
        """Raise Conflict where the client was closed or stopped, or this process is a fork.

        Raises:
            Conflict: the client cannot be used; the message says what to do.
        """
        _check_usable(self._process, self._ended)

    def close(self) -> None:
        """Give up the store, or close the connection to the server. Later calls do nothing."""
        if not self._ended and self._process == os.getpid():
            self._ended = "this client was closed: connect again"
            self._transport.close()

    def _stop(self, why: str) -> None:
        """Let all further calls raise Conflict with ``why``, but leave the transport open."""
        self._ended = self._ended or why

    def run(self, call: Call[T]) -> T:
        """Make a call, wait for its answer, and return its result."""
        return run(self._usable_transport, call, self._timeout_s)

    def iterate(self, feed: Feed[T]) -> Iterator[T]:
        """Make a call with a stream of answers, and yield them as they come."""
        return iterate(self._usable_transport, feed, self._timeout_s)


class AsyncConnection:
    """Makes calls to a store's owner and awaits their answers, within one event loop."""

    def __init__(
        self, transport: AsyncTransport, *, timeout_s: float = 30.0, is_local: bool = False
    ) -> None:
        """Make calls over a transport; :func:`connect_async` makes the right one.

        Args:
            transport: sends the calls; closed together with the connection.
            timeout_s: how many seconds a call may take.
            is_local: whether this process owns the store.
        """
        self._transport = transport
        self._timeout_s = timeout_s
        self._is_local = is_local
        self._process = os.getpid()
        self._ended = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def address(self) -> str:
        """Path of the store, or address of the server."""
        return self._transport.address

    @property
    def is_local(self) -> bool:
        """Whether this process owns the store."""
        return self._is_local

    @property
    def timeout_s(self) -> float:
        """How many seconds a call may take."""
        return self._timeout_s

    @property
    def _usable_transport(self) -> AsyncTransport:
        """The transport, if it may still be used.

        Raises:
            Conflict: the client was closed, or made before this process was forked.
        """
        _check_usable(self._process, self._ended)
        return self._transport

    async def close(self) -> None:
        """Give up the store, or close the connection to the server. Later calls do nothing."""
        if not self._ended and self._process == os.getpid():
            self._ended = "this client was closed: connect again"
            await self._transport.close()

    async def run(self, call: Call[T]) -> T:
        """Make a call, wait for its answer, and return its result."""
        return await run_async(self._usable_transport, call, self._timeout_s)

    def iterate(self, feed: Feed[T]) -> AsyncIterator[T]:
        """Make a call with a stream of answers, and yield them as they come."""
        return iterate_async(self._usable_transport, feed, self._timeout_s)

    def _blocking(self) -> Connection:
        """Return a blocking connection over the same transport, for a thread; do not close it."""
        return Connection(
            self._usable_transport.blocking, timeout_s=self._timeout_s, is_local=self._is_local
        )


def _check_usable(process: int, ended: str) -> None:
    if process != os.getpid():
        raise Conflict(
            f"this client was made in process {process} and cannot be used in its fork "
            f"{os.getpid()}: connect again there, or use the spawn start method"
        )
    if ended:
        raise Conflict(ended)
