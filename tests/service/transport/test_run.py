"""Doing the steps of a call: in order, with its timeouts, and what is closed in the end."""

import asyncio
import time
from collections.abc import Generator

import pytest
from google.longrunning import operations_pb2 as operations
from google.protobuf.message import Message
from tests.service.transport.planned import AsyncPlanned, Planned

from isogloss.errors import ServerUnavailable
from isogloss.proto.v1 import jobs_pb2
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.call import Call, Emit, Feed, Next, Open, Pause, ask, next_message
from isogloss.service.transport.run import iterate, iterate_async, run, run_async
from isogloss.service.wire.methods import method_of


def both(*answers: Message | Exception) -> tuple[Planned, Planned]:
    return Planned(*answers), Planned(*answers)


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


def reopening() -> Call[list[str]]:
    method = method_of(jobs_pb2.WatchJobRequest, operations.Operation)
    assert (yield Next()) is None, "no stream is open"
    found: list[str] = []
    for _ in range(2):
        assert (yield Open(method, jobs_pb2.WatchJobRequest())) is None
        message = yield from next_message(operations.Operation)
        found.append("" if message is None else message.head.name)
    assert (yield Pause(0.0)) is None
    yield from ask(pb.GetStorageRequest(), pb.Storage, 2.5)
    return found


def test_one_stream_is_open_at_a_time_and_none_in_the_end() -> None:
    blocking, awaited = both(
        operations.Operation(name="a"), operations.Operation(name="b"), pb.Storage()
    )
    assert run(blocking, reopening(), 3) == ["a", "b"]
    assert asyncio.run(run_async(AsyncPlanned(awaited), reopening(), 3)) == ["a", "b"]
    assert blocking.asked == ["WatchJob", "WatchJob", "GetStorage 5.5"]
    assert awaited.asked == blocking.asked
    assert (blocking.open_streams, awaited.open_streams) == (0, 0)


def test_a_pause_lets_time_pass() -> None:
    def waiting() -> Call[int]:
        yield Pause(0.05)
        return 1

    begun = time.monotonic()
    assert run(Planned(), waiting(), 1) == 1
    assert time.monotonic() - begun >= 0.05
    begun = time.monotonic()
    assert asyncio.run(run_async(AsyncPlanned(Planned()), waiting(), 1)) == 1
    assert time.monotonic() - begun >= 0.04


def test_an_error_that_is_not_ours_is_no_answer_and_ends_the_call() -> None:
    def forgiving() -> Call[pb.Storage]:
        try:
            return (yield from ask(pb.GetStorageRequest(), pb.Storage))
        except ZeroDivisionError:
            return pb.Storage()

    with pytest.raises(ZeroDivisionError):
        run(Planned(ZeroDivisionError()), forgiving(), 1)
