"""Calls answered by handlers in this process, without a socket."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Protocol

from google.protobuf.message import Message

from isogloss.errors import Conflict, IsoglossError, from_os_error
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.calls.table import Streaming, Unary
from isogloss.service.ingest.ingest import Ingest, Session
from isogloss.service.transport.outgoing import Outgoing, as_it_is
from isogloss.service.transport.protocols import AppendStream
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import Method
from isogloss.service.wire.names import from_name
from isogloss.store import RowBatch


class Answering(Protocol):
    """The handlers of the calls that this process answers."""

    @property
    def unary(self) -> dict[str, Unary]:
        """Calls with one answer, by path."""
        ...

    @property
    def streaming(self) -> dict[str, Streaming]:
        """Calls with a stream of answers, by path."""
        ...

    @property
    def ingest(self) -> Ingest:
        """Takes the batches that the call Append receives."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


@contextlib.contextmanager
def _os_errors() -> Generator[None]:
    """Turn what the operating system refuses into an error of ours, as a server does."""
    try:
        yield
    except IsoglossError:
        raise
    except OSError as error:
        raise from_os_error(error) from error


class LocalTransport:
    """Calls the handlers in this process, which owns the store."""

    def __init__(self, handlers: Answering, address: str) -> None:
        self._handlers = handlers
        self._address = address

    @property
    def address(self) -> str:
        """Path of the store."""
        return self._address

    def unary(self, method: Method, request: Message, timeout_s: float) -> Message:
        """Call the handler in this thread; ``timeout_s`` is not enforced here."""
        with _os_errors():
            return self._handlers.unary[method.path].answer(request)

    def stream(self, method: Method, request: Message) -> Generator[Framed[Message]]:
        """Call the handler in this thread, an answer at a time."""
        with _os_errors():
            yield from self._handlers.streaming[method.path].answer(request)

    def append(self, header: pb.AppendHeader) -> AppendStream:
        """Begin a producer's stream into the ingest of this process."""
        return _LocalAppend(self._handlers.ingest, header)

    def outgoing(self, batch: RowBatch) -> Outgoing:
        """Return a batch as it is: ingest takes the object itself."""
        return as_it_is(batch)

    def close(self) -> None:
        """Let go of the store."""
        self._handlers.close()


class _LocalAppend:
    """Feeds a session from the caller's thread."""

    def __init__(self, ingest: Ingest, header: pb.AppendHeader) -> None:
        self._changed = threading.Condition()
        self._told: tuple[int, int] | None = None
        self._half_closed = False
        self._closed = False
        self._session: Session = ingest.open(
            from_name("recordings", header.recording), header.producer, self._notify
        )

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def send(self, outgoing: Outgoing, part_bytes: int) -> None:
        """Offer a batch until there is room for it; ``part_bytes`` means nothing here."""
        self._check_open()
        # The timeout only guards against a lost wake-up; room is announced through notify.
        while not self._session.offer_batch(outgoing.batch, outgoing.size):
            with self._changed:
                self._changed.wait(0.1)
            self._check_open()
        self._notify()

    def _check_open(self) -> None:
        with self._changed:
            if self._half_closed or self._closed:
                raise Conflict("this stream was closed: open another appender")

    def receive(self) -> pb.AppendResponse | None:
        """Wait until an acknowledgement is new."""
        with self._changed:
            while True:
                session = self._session
                now = (session.received, session.durable)
                if session.error is not None:
                    raise session.error
                if now != self._told and not self._closed:
                    self._told = now
                    return session.acknowledgement()
                if self._closed or (self._half_closed and session.is_settled):
                    return None
                self._changed.wait(1.0)

    def half_close(self) -> None:
        """Say that no batch follows."""
        with self._changed:
            self._half_closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Leave the session."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._session.close()


class AsyncLocalTransport:
    """Calls the handlers of this process in threads, so that the event loop goes on."""

    def __init__(self, blocking: LocalTransport) -> None:
        self._blocking = blocking

    @property
    def address(self) -> str:
        """Path of the store."""
        return self._blocking.address

    @property
    def blocking(self) -> LocalTransport:
        """The transport underneath."""
        return self._blocking

    async def unary(self, method: Method, request: Message, timeout_s: float) -> Message:
        """Call the handler in a thread."""
        return await asyncio.to_thread(self._blocking.unary, method, request, timeout_s)

    async def stream(self, method: Method, request: Message) -> AsyncGenerator[Framed[Message]]:
        """Draw each answer in a thread."""
        answers = self._blocking.stream(method, request)
        while (answer := await asyncio.to_thread(next, answers, None)) is not None:
            yield answer

    async def close(self) -> None:
        """Let go of the store."""
        await asyncio.to_thread(self._blocking.close)
