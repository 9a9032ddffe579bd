"""How a client's calls reach the handlers: the seam, and the way within one process."""

from collections.abc import AsyncIterator, Iterator
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from isogloss.errors import DeadlineExceeded
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.calls.table import Streaming, Unary
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.transport.outgoing import Outgoing
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import Method
from isogloss.store import RowBatch

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class AppendStream(Protocol):
    """One producer's open stream of batches."""

    def send(self, outgoing: Outgoing, part_bytes: int) -> None:
        """Send a batch whole; waits while the other side takes nothing more.

        Args:
            outgoing: what :meth:`Transport.outgoing` made of the batch.
            part_bytes: payload of a message, where it is cut into several.
        """
        ...

    def receive(self) -> pb.AppendResponse | None:
        """Wait for the next acknowledgement; None once the stream ended in good order."""
        ...

    def half_close(self) -> None:
        """Say that no batch follows; acknowledgements still come."""
        ...

    def close(self) -> None:
        """End the stream at once."""
        ...


class Transport(Protocol):
    """Carries calls. Raises errors of ours only; no type of grpc passes through it."""

    @property
    def address(self) -> str:
        """Where the calls go, for messages."""
        ...

    def unary(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout_s: float
    ) -> ResponseT:
        """Ask once, answer once."""
        ...

    def stream(
        self, method: Method[RequestT, ResponseT], request: RequestT
    ) -> Iterator[Framed[ResponseT]]:
        """Ask once, answer as a stream; closing the iterator ends the call."""
        ...

    def append(self, header: pb.AppendHeader) -> AppendStream:
        """Begin a producer's stream."""
        ...

    def outgoing(self, batch: RowBatch) -> Outgoing:
        """Return a batch in the form in which streams of this transport send it."""
        ...

    def close(self) -> None:
        """Let go of connections, or of the store."""
        ...


class AsyncTransport(Protocol):
    """The same for asyncio; appending goes through :attr:`blocking`, in threads."""

    @property
    def address(self) -> str:
        """Where the calls go, for messages."""
        ...

    @property
    def blocking(self) -> Transport:
        """A transport to the same place for use in threads."""
        ...

    async def unary(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout_s: float
    ) -> ResponseT:
        """Ask once, answer once."""
        ...

    def stream(
        self, method: Method[RequestT, ResponseT], request: RequestT
    ) -> AsyncIterator[Framed[ResponseT]]:
        """Ask once, answer as a stream; closing the iterator ends the call."""
        ...

    async def close(self) -> None:
        """Let go of connections, or of the store."""
        ...


class Handlers(Protocol):
    """Every handler of a process by path, and the ingest behind Append."""

    @property
    def unary(self) -> dict[str, Unary]:
        """Calls with one answer."""
        ...

    @property
    def streaming(self) -> dict[str, Streaming]:
        """Calls with a stream of answers."""
        ...

    @property
    def ingest(self) -> Ingest:
        """What Append feeds."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


def check_deadline(timeout_s: float) -> float:
    """Return a timeout that a call can have; DeadlineExceeded where none of it is left."""
    if timeout_s <= 0:
        raise DeadlineExceeded(f"timeout_s is {timeout_s:g}, so no time is left for the call")
    return timeout_s
