"""What a writer asks about direct lanes."""

import pytest
from tests.service.transport.planned import Planned

from isogloss.errors import InvalidName
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.recording.direct_requests import open_direct_lane, storage
from isogloss.service.transport.call import Ask
from isogloss.service.transport.run import run


def test_a_lane_is_asked_for_by_the_name_of_its_recording() -> None:
    step = next(open_direct_lane("docs", ["p", "q"], "proof"))
    assert isinstance(step, Ask)
    assert step.request == pb.OpenDirectLaneRequest(
        name="recordings/docs", producers=["p", "q"], proof="proof"
    )
    answer = pb.DirectLane(lane="l1", ticket=b"ticket")
    assert run(Planned(answer), open_direct_lane("docs", ["p"], ""), 1) == b"ticket"
    with pytest.raises(InvalidName, match="'Docs'"):
        open_direct_lane("Docs", [], "")


def test_the_storage_is_what_the_owner_says() -> None:
    answer = pb.Storage(root="/r", proof_file="f")
    assert run(Planned(answer), storage(), 1) == answer
