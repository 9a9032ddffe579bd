"""A call as a generator of steps, done in order by whoever makes it."""

import asyncio

import pytest
from google.protobuf.message import Message
from tests.service.transport.planned import AsyncPlanned, Planned

from isogloss.errors import InternalError, InvalidInput, NotFound
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.call import (
    Call,
    ask,
    collect,
    receive,
    tell,
    then,
)
from isogloss.service.transport.run import run, run_async
from isogloss.service.wire.framing import Framed

LIST = pb.ListRecordingsRequest()


def both(*answers: Message | Exception) -> tuple[Planned, Planned]:
    return Planned(*answers), Planned(*answers)


def pages() -> Call[list[str]]:
    return collect(
        lambda token: pb.ListRecordingsRequest(page_token=token),
        pb.ListRecordingsResponse,
        lambda page: ([found.name for found in page.recordings], page.next_page_token),
    )


def test_a_list_whose_pages_repeat_is_refused() -> None:
    again = [pb.ListRecordingsResponse(next_page_token=token) for token in ("a", "b", "a")]
    with pytest.raises(InternalError, match="'a' twice"):
        run(Planned(*again), pages(), timeout_s=5)


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
    def of_the_caller(_: Framed[pb.ReadDocumentsResponse]) -> None:
        raise ZeroDivisionError

    def refuse(block: Framed[pb.ReadDocumentsResponse]) -> None:
        tell(of_the_caller, block)

    blocking, awaited = both(pb.ReadDocumentsResponse(), pb.ReadDocumentsResponse())
    call = receive(pb.ReadDocumentsRequest(), pb.ReadDocumentsResponse, refuse)
    with pytest.raises(ZeroDivisionError):
        run(blocking, then(call, lambda _: 1), 1)
    call = receive(pb.ReadDocumentsRequest(), pb.ReadDocumentsResponse, refuse)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_async(AsyncPlanned(awaited), call, 1))
    assert (blocking.open_streams, awaited.open_streams) == (0, 0)


@pytest.mark.parametrize("error", [ValueError, OverflowError, KeyError, InvalidInput, MemoryError])
def test_an_answer_that_cannot_be_read_names_its_call_and_address(error: type[Exception]) -> None:
    def refuse(_: object) -> None:
        raise error("field x is odd")

    blocking, awaited = both(pb.ReadDocumentsResponse(), pb.ReadDocumentsResponse())
    call = receive(pb.ReadDocumentsRequest(), pb.ReadDocumentsResponse, refuse)
    said = f"{blocking.address} answered .*ReadDocuments with .*field x is odd"
    with pytest.raises(InternalError, match=said):
        run(blocking, call, 1)
    call = receive(pb.ReadDocumentsRequest(), pb.ReadDocumentsResponse, refuse)
    with pytest.raises(InternalError, match=said):
        asyncio.run(run_async(AsyncPlanned(awaited), call, 1))
    with pytest.raises(InternalError, match="field x is odd"):
        run(Planned(pb.Storage()), then(ask(pb.GetStorageRequest(), pb.Storage), refuse), 1)


def test_what_a_request_cannot_hold_is_refused_before_it_is_sent() -> None:
    def begin() -> Call[None]:
        yield from ask(pb.GetRecordingRequest(name="\ud800"), pb.Recording)

    planned = Planned()
    with pytest.raises(InvalidInput, match="lone surrogate"):
        run(planned, begin(), 1)
