"""How a client's calls reach the store's owner: the promises that every transport keeps."""

from collections.abc import AsyncGenerator, Generator
from typing import Protocol

from google.protobuf.message import Message

from isogloss.errors import DeadlineExceeded
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.outgoing import Outgoing
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import Method
from isogloss.store import RowBatch


class AppendStream(Protocol):
    """One producer's open stream of batches."""

    def send(self, outgoing: Outgoing, part_bytes: int) -> None:
        """Send a batch whole; wait while the other side takes nothing more.

        Args:
            outgoing: the batch as :meth:`Transport.outgoing` encoded it.
            part_bytes: most payload bytes of one message; a larger batch is cut into several.
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
        """The address of the store or server, for error messages."""
        ...

    def unary(self, method: Method, request: Message, timeout_s: float) -> Message:
        """Ask once, answer once."""
        ...

    def stream(self, method: Method, request: Message) -> Generator[Framed[Message]]:
        """Ask once, answer as a stream; closing the generator ends the call."""
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
    """A transport for asyncio; appending goes through :attr:`blocking`, in threads."""

    @property
    def address(self) -> str:
        """The address of the store or server, for error messages."""
        ...

    @property
    def blocking(self) -> Transport:
        """A transport to the same place for use in threads."""
        ...

    async def unary(self, method: Method, request: Message, timeout_s: float) -> Message:
        """Ask once, answer once."""
        ...

    def stream(self, method: Method, request: Message) -> AsyncGenerator[Framed[Message]]:
        """Ask once, answer as a stream; closing the generator ends the call."""
        ...

    async def close(self) -> None:
        """Let go of connections, or of the store."""
        ...


def check_deadline(timeout_s: float) -> float:
    """Return a timeout that a call can have; DeadlineExceeded where none of it is left."""
    if timeout_s <= 0:
        raise DeadlineExceeded(f"timeout_s is {timeout_s:g}, so no time is left for the call")
    return timeout_s
