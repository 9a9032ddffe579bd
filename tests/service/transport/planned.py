"""Transports that give planned answers, and note what they were asked."""

from collections.abc import AsyncGenerator, Generator

from google.protobuf.message import Message

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.outgoing import Outgoing
from isogloss.service.transport.protocols import AppendStream
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import Method
from isogloss.store import RowBatch


class Planned:
    """A transport that gives planned answers, and notes what it was asked."""

    address = "planned"

    def __init__(self, *answers: Message | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self.open_streams = 0

    def unary(self, method: Method, request: Message, timeout_s: float) -> Message:
        self.asked.append(f"{method.name} {timeout_s:g}")
        return self._next()

    def stream(self, method: Method, request: Message) -> Generator[Framed[Message]]:
        self.asked.append(method.name)
        self.open_streams += 1
        try:
            while self._answers:
                yield Framed(head=self._next(), payload=())
        finally:
            self.open_streams -= 1

    def append(self, header: pb.AppendHeader) -> AppendStream:
        raise NotImplementedError

    def outgoing(self, batch: RowBatch) -> Outgoing:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def _next(self) -> Message:
        found = self._answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


class AsyncPlanned:
    """The same, awaited."""

    address = "planned"

    def __init__(self, blocking: Planned) -> None:
        self.blocking = blocking

    async def unary(self, method: Method, request: Message, timeout_s: float) -> Message:
        return self.blocking.unary(method, request, timeout_s)

    async def stream(self, method: Method, request: Message) -> AsyncGenerator[Framed[Message]]:
        for found in self.blocking.stream(method, request):
            yield found

    async def close(self) -> None:
        raise NotImplementedError
