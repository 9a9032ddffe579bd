"""Which calls each process answers itself, and which it forwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.calls.filled import owner_of

from isogloss.errors import Conflict, NotPermitted
from isogloss.proto.v1 import server_pb2 as pb
from isogloss.service.calls.all import (
    CHECKED,
    QUERIES,
    ControlHandlers,
    LocalHandlers,
    ReadingHandlers,
)
from isogloss.service.control.owner import Owner
from isogloss.service.values.addresses import Listening
from isogloss.service.wire.methods import METHODS, method_of
from isogloss.store import Store

INFO = method_of(pb.GetServerInfoRequest, pb.ServerInfo).path
ANSWERED = {path for path, method in METHODS.items() if not method.takes_stream}


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    with owner_of(tmp_path_factory.mktemp("all") / "store") as owner:
        yield owner


def test_a_server_answers_all_but_what_it_forwards(owner: Owner) -> None:
    control = ControlHandlers(owner)
    own = set(control.unary) | set(control.streaming)
    assert not own & QUERIES
    assert own | QUERIES == ANSWERED
    assert own >= CHECKED
    assert {path.rpartition("/")[2] for path in QUERIES} >= {"Encode", "NearestFeatures"}
    assert control.ingest is owner.ingest


def test_a_client_with_a_store_answers_every_call_and_listens_nowhere(owner: Owner) -> None:
    local = LocalHandlers(owner)
    assert set(local.unary) | set(local.streaming) == ANSWERED
    assert not set(local.unary) & set(local.streaming)
    assert local.ingest is owner.ingest
    answer = local.unary[INFO].answer(pb.GetServerInfoRequest())
    assert isinstance(answer, pb.ServerInfo)
    assert list(answer.addresses) == []


def test_a_server_says_how_it_is_reached_once_that_is_known(owner: Owner) -> None:
    control = ControlHandlers(owner)
    found: list[list[str]] = []
    for listening in (Listening(), Listening(addresses=("unix:/a",))):
        control.listening = listening
        answer = control.unary[INFO].answer(pb.GetServerInfoRequest())
        assert isinstance(answer, pb.ServerInfo)
        found.append(list(answer.addresses))
    assert found == [[], ["unix:/a"]]


def test_closing_lets_the_store_go(tmp_path: Path) -> None:
    owner = Owner(Store.open(tmp_path / "store"), run_workers=False)
    local = LocalHandlers(owner)
    local.close()
    with pytest.raises(Conflict, match="closed"):
        owner.jobs.list()
    Store.open(tmp_path / "store").close()


def test_a_reading_client_answers_what_changes_nothing_and_refuses_the_rest(owner: Owner) -> None:
    reading = ReadingHandlers(owner)
    assert set(reading.unary) | set(reading.streaming) == ANSWERED
    told = reading.unary[INFO].answer(pb.GetServerInfoRequest())
    assert isinstance(told, pb.ServerInfo)
    assert told.version
    refused: set[str] = set()
    for path, call in {**reading.unary, **reading.streaming}.items():
        if not METHODS[path].only_reads:
            with pytest.raises(NotPermitted, match="connect without read_only=True"):
                call.answer(METHODS[path].request())
            refused.add(METHODS[path].name)
    assert refused >= {"CreateRecording", "TrainDictionary", "DeleteMatch", "CancelOperation"}
    assert not refused & {"GetOperation", "WaitOperation", "NearestFeatures", "Read", "WatchJob"}
    with pytest.raises(NotPermitted, match="Append changes the store"):
        _ = reading.ingest
