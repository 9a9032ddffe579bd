"""What a writer asks about direct lanes: where the store is, and for a lane."""

from collections.abc import Sequence

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.call import Call, ask, then
from isogloss.service.wire.names import to_name


def storage() -> Call[pb.Storage]:
    """Return where the store lies on the owner's machine, and how to prove to see it."""
    return ask(pb.GetStorageRequest(), pb.Storage)


def open_direct_lane(name: str, producers: Sequence[str], proof: str) -> Call[bytes]:
    """Return the ticket of a new lane."""
    request = pb.OpenDirectLaneRequest(
        name=to_name("recordings", name), producers=producers, proof=proof
    )
    return then(ask(request, pb.DirectLane), lambda lane: lane.ticket)
