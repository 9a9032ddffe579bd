"""A call as a generator of steps, done in order by whoever makes it."""

import asyncio
from collections.abc import AsyncGenerator, Generator

import pytest
from google.longrunning import operations_pb2 as operations
from google.protobuf.message import Message

from isogloss.errors import InternalError, NotFound, ServerUnavailable
from isogloss.proto.v1 import jobs_pb2
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.call import (
    Call,
    Emit,
    Feed,
    Open,
    ask,
    collect,
    next_message,
    receive,
    then,
)
from isogloss.service.transport.outgoing import Outgoing
from isogloss.service.transport.run import iterate, iterate_async, run, run_async
from isogloss.service.transport.seam import AppendStream
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import Method, method_of
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


LIST = pb.ListRecordingsRequest()


def both(*answers: Message | Exception) -> tuple[Planned, Planned]:
    return Planned(*answers), Planned(*answers)


def pages() -> Call[list[str]]:
    return collect(
        lambda token: pb.ListRecordingsRequest(page_token=token),
        pb.ListRecordingsResponse,
        lambda page: ([found.name for found in page.recordings], page.next_page_token),
    )


def test_pages_are_joined_until_no_token_comes() -> None:
    first = pb.ListRecordingsResponse(recordings=[pb.Recording(name="a")], next_page_token="t")
    second = pb.ListRecordingsResponse(recordings=[pb.Recording(name="b")])
    blocking, awaited = both(first, second)
    assert run(blocking, pages(), 3) == ["a", "b"]
    assert asyncio.run(run_async(AsyncPlanned(awaited), pages(), 3)) == ["a", "b"]
    assert blocking.asked == awaited.asked == ["ListRecordings 3", "ListRecordings 3"]


def test_an_error_is_raised_where_the_call_waits() -> None:
    def forgiving() -> Call[str]:
        try:
            yield from ask(pb.GetRecordingRequest(), pb.Recording)
        except NotFound as error:
            found = yield from ask(LIST, pb.ListRecordingsResponse, 2.0)
            return f"{error}, {found.next_page_token}"
        return "no error"

    blocking, awaited = both(NotFound("gone"), pb.ListRecordingsResponse(next_page_token="t"))
    assert run(blocking, forgiving(), 1) == "gone, t"
    assert asyncio.run(run_async(AsyncPlanned(awaited), forgiving(), 1)) == "gone, t"
    assert blocking.asked == ["GetRecording 1", "ListRecordings 3"]


def test_an_answer_of_another_type_is_a_defect() -> None:
    with pytest.raises(InternalError, match="answered with a Storage"):
        run(Planned(pb.Storage()), ask(LIST, pb.ListRecordingsResponse), 1)
    with pytest.raises(InternalError, match=r"answers with isogloss\.v1\.ListRecordingsResponse"):
        run(Planned(), ask(LIST, pb.Storage), 1)


def test_a_stream_ends_when_what_takes_it_raises() -> None:
    def refuse(_: Framed[pb.ReadDocumentsResponse]) -> None:
        raise ZeroDivisionError

    blocking, awaited = both(pb.ReadDocumentsResponse(), pb.ReadDocumentsResponse())
    call = receive(pb.ReadDocumentsRequest(), pb.ReadDocumentsResponse, refuse)
    with pytest.raises(ZeroDivisionError):
        run(blocking, then(call, lambda _: 1), 1)
    call = receive(pb.ReadDocumentsRequest(), pb.ReadDocumentsResponse, refuse)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_async(AsyncPlanned(awaited), call, 1))
    assert (blocking.open_streams, awaited.open_streams) == (0, 0)


def names() -> Feed[str]:
    method = method_of(jobs_pb2.WatchJobRequest, operations.Operation)
    for _ in range(2):
        try:
            yield Open(method, jobs_pb2.WatchJobRequest())
            while (found := (yield from next_message(operations.Operation))) is not None:
                yield Emit(found.head.name)
        except ServerUnavailable as error:
            yield Emit(str(error))


def test_what_is_iterated_over_outlasts_a_stream_that_broke() -> None:
    answers = (
        operations.Operation(name="a"),
        ServerUnavailable("away"),
        operations.Operation(name="b"),
    )
    blocking, awaited = both(*answers)
    assert list(iterate(blocking, names(), 1)) == ["a", "away", "b"]

    async def all_of_it() -> list[str]:
        return [name async for name in iterate_async(AsyncPlanned(awaited), names(), 1)]

    assert asyncio.run(all_of_it()) == ["a", "away", "b"]
    assert blocking.asked == awaited.asked == ["WatchJob", "WatchJob"]


def test_leaving_an_iteration_closes_its_stream() -> None:
    transport = Planned(operations.Operation(name="a"), operations.Operation(name="b"))
    feed = iterate(transport, names(), 1)
    assert next(feed) == "a"
    assert transport.open_streams == 1
    assert isinstance(feed, Generator)
    feed.close()
    assert transport.open_streams == 0
