"""Handlers are bound to calls by their names."""

from collections.abc import Iterator

import pytest

from isogloss.errors import InternalError, InvalidInput
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.calls.all import QUERIES
from isogloss.service.calls.queries import QueryHandlers
from isogloss.service.calls.table import bind, check_complete, checks_of, methods_of
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import METHODS

GET = "/isogloss.v1.RecordingService/GetRecording"
READ = "/isogloss.v1.RecordingService/Read"


class Topic:
    def get_recording(self, request: pb.GetRecordingRequest) -> pb.Recording:
        return pb.Recording(name=request.name)

    def read(self, request: pb.ReadRequest) -> Iterator[Framed[pb.ReadResponse]]:
        yield Framed(head=pb.ReadResponse(start=request.start), payload=())

    def _helper(self) -> None: ...


def test_a_handler_answers_the_call_of_its_name() -> None:
    bound = bind(Topic())
    assert bound.paths == {GET, READ}
    assert bound.unary[GET].answer(pb.GetRecordingRequest(name="a")) == pb.Recording(name="a")
    (block,) = bound.streaming[READ].answer(pb.ReadRequest(start=3))
    assert block.head == pb.ReadResponse(start=3)


def test_a_handler_of_no_call_is_refused() -> None:
    class Surplus:
        def get_nothing(self, request: pb.GetRecordingRequest) -> pb.Recording: ...

    class OfAppend:
        def append(self, request: pb.AppendRequest) -> pb.AppendResponse: ...

    for topic in (Surplus, OfAppend):
        with pytest.raises(InternalError, match="answers no call"):
            methods_of(topic)


def test_a_handler_of_other_messages_is_refused() -> None:
    class OtherRequest:
        def get_recording(self, request: pb.ListRecordingsRequest) -> pb.Recording: ...

    class OtherAnswer:
        def get_recording(self, request: pb.GetRecordingRequest) -> pb.Storage: ...

    class NoStream:
        def read(self, request: pb.ReadRequest) -> pb.ReadResponse: ...

    for topic in (OtherRequest, OtherAnswer, NoStream):
        with pytest.raises(InternalError, match="wanted request"):
            methods_of(topic)


def test_two_handlers_of_one_call_are_refused() -> None:
    with pytest.raises(InternalError, match=f"{GET} has two handlers"):
        bind(Topic(), Topic())


def test_a_call_without_a_handler_is_named() -> None:
    answered = frozenset(path for path, method in METHODS.items() if not method.takes_stream)
    check_complete(answered)
    with pytest.raises(InternalError, match=f"no handler answers {GET}, {READ}"):
        check_complete(answered - {GET, READ})


def test_which_calls_are_forwarded_follows_from_what_the_query_process_answers() -> None:
    assert {method.path for method in methods_of(QueryHandlers)} == QUERIES
    assert {path.rpartition("/")[2] for path in QUERIES} == {
        *("Encode", "Decode", "ListKinds", "GetFeature", "NearestFeatures", "ListPairs"),
        "ReadSegments",
    }


# Checks.


class Checks:
    def check_get_recording(self, request: pb.GetRecordingRequest) -> pb.GetRecordingRequest:
        if not request.name:
            raise InvalidInput("no name")
        return pb.GetRecordingRequest(name=f"{request.name}, checked")


def test_a_check_comes_before_the_handler_in_one_process() -> None:
    for topics in ((Topic(), Checks()), (Checks(), Topic())):
        bound = bind(*topics)
        assert bound.checks == {}
        answer = bound.unary[GET].answer
        assert answer(pb.GetRecordingRequest(name="a")) == pb.Recording(name="a, checked")
        with pytest.raises(InvalidInput, match="no name"):
            answer(pb.GetRecordingRequest())


def test_a_check_without_its_handler_gives_the_request_back() -> None:
    bound = bind(Checks())
    assert (bound.paths, list(bound.checks)) == (set(), [GET])
    found = bound.checks[GET].answer(pb.GetRecordingRequest(name="a"))
    assert found == pb.GetRecordingRequest(name="a, checked")
    assert [method.path for method in checks_of(Checks)] == [GET]
    assert methods_of(Checks) == []


def test_a_check_of_other_messages_is_refused() -> None:
    class GivesTheAnswer:
        def check_get_recording(self, request: pb.GetRecordingRequest) -> pb.Recording: ...

    with pytest.raises(InternalError, match="wanted request"):
        checks_of(GivesTheAnswer)
