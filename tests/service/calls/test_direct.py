"""Calls of direct lanes: what a writer is told and given."""

from collections.abc import Iterator

import pytest
from tests.service.calls.filled import owner_of

from isogloss.errors import InvalidName, NotFound, NotPermitted
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.calls.direct import DirectHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.values.direct_proof import PROOF_NAME, make_proof
from isogloss.store import DirectLaneTicket


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    with owner_of(tmp_path_factory.mktemp("direct") / "store") as owner:
        yield owner


@pytest.fixture(scope="module")
def handlers(owner: Owner) -> DirectHandlers:
    return DirectHandlers(owner.direct)


def test_a_caller_that_reads_the_proof_is_given_a_ticket(
    owner: Owner, handlers: DirectHandlers
) -> None:
    storage = handlers.get_storage(pb.GetStorageRequest())
    assert storage.root == str(owner.store.root)
    assert storage == pb.Storage(root=storage.root), "no file that a server names is opened"
    said = make_proof((owner.store.root / PROOF_NAME).read_bytes(), "docs", ["p", "q"])
    request = pb.OpenDirectLaneRequest(name="recordings/docs", producers=["p", "q"], proof=said)
    lane = handlers.open_direct_lane(request)
    ticket = DirectLaneTicket.from_bytes(lane.ticket)
    assert ticket.lane == lane.lane != ""
    request.proof = "x"
    with pytest.raises(NotPermitted, match="read it again"):
        handlers.open_direct_lane(request)
    request.name = "docs"
    with pytest.raises(InvalidName, match="recordings/ID"):
        handlers.open_direct_lane(request)


def test_a_lane_that_is_not_there_cannot_be_ended(handlers: DirectHandlers) -> None:
    with pytest.raises(NotFound):
        handlers.end_direct_lane(pb.EndDirectLaneRequest(name="recordings/docs", lane="lost"))
    with pytest.raises(InvalidName, match="recordings/ID"):
        handlers.end_direct_lane(pb.EndDirectLaneRequest(name="docs", lane="lost"))
