"""What both clients are built on: a transport, the process it belongs to, and making calls."""

import os
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self, TypeVar

from isogloss.errors import Conflict
from isogloss.service.transport.call import Call, Feed
from isogloss.service.transport.run import iterate, iterate_async, run, run_async
from isogloss.service.transport.seam import AsyncTransport, Transport

T = TypeVar("T")


class Connection:
    """A way to whoever answers, for calls that block. Safe from several threads."""

    def __init__(
        self, transport: Transport, *, timeout_s: float = 30.0, is_local: bool = False
    ) -> None:
        """Take a transport; :func:`connect` makes the right one.

        Args:
            transport: carries the calls; closed with the client.
            timeout_s: how long a call may take.
            is_local: whether this process owns the store.
        """
        self._transport = transport
        self._timeout_s = timeout_s
        self._is_local = is_local
        self._process = os.getpid()
        self._ended = ""

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
        """How long a call may take."""
        return self._timeout_s

    @property
    def _usable_transport(self) -> Transport:
        """What carries the calls.

        Raises:
            Conflict: the client was closed, or made in another process.
        """
        self._check_usable()
        return self._transport

    def _check_usable(self) -> None:
        """Refuse to go on where the client was closed or stopped, or in a fork of its process.

        Raises:
            Conflict: the message says what to do.
        """
        _check_usable(self._process, self._ended)

    def close(self) -> None:
        """Let go of the store or the connection. Later calls do nothing."""
        if not self._ended and self._process == os.getpid():
            self._ended = "this client was closed: connect again"
            self._transport.close()

    def _stop(self, why: str) -> None:
        """Refuse further calls, and leave the transport open."""
        self._ended = self._ended or why

    def run(self, call: Call[T]) -> T:
        """Make a call and return what it comes to."""
        return run(self._usable_transport, call, self._timeout_s)

    def iterate(self, feed: Feed[T]) -> Iterator[T]:
        """Make a call and yield what it gives."""
        return iterate(self._usable_transport, feed, self._timeout_s)


class AsyncConnection:
    """The same for asyncio, within one event loop."""

    def __init__(
        self, transport: AsyncTransport, *, timeout_s: float = 30.0, is_local: bool = False
    ) -> None:
        """Take a transport; ``connect_async`` makes the right one.

        Args:
            transport: carries the calls; closed with the client.
            timeout_s: how long a call may take.
            is_local: whether this process owns the store.
        """
        self._transport = transport
        self._timeout_s = timeout_s
        self._is_local = is_local
        self._process = os.getpid()
        self._ended = ""

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
        """How long a call may take."""
        return self._timeout_s

    @property
    def _usable_transport(self) -> AsyncTransport:
        """What carries the calls.

        Raises:
            Conflict: the client was closed, or made in another process.
        """
        _check_usable(self._process, self._ended)
        return self._transport

    async def close(self) -> None:
        """Let go of the store or the connection. Later calls do nothing."""
        if not self._ended and self._process == os.getpid():
            self._ended = "this client was closed: connect again"
            await self._transport.close()

    async def run(self, call: Call[T]) -> T:
        """Make a call and return what it comes to."""
        return await run_async(self._usable_transport, call, self._timeout_s)

    def iterate(self, feed: Feed[T]) -> AsyncIterator[T]:
        """Make a call and yield what it gives."""
        return iterate_async(self._usable_transport, feed, self._timeout_s)

    def _blocking(self) -> Connection:
        """Return a connection to the same place, for work in a thread; it is not to be closed."""
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
