"""The requests of a process that writes direct lanes: where the store is, and for a new lane."""

from collections.abc import Sequence

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.call import Call, ask, then
from isogloss.service.wire.names import to_name


def storage() -> Call[pb.Storage]:
    """Ask where the root lies on the owner's machine; the owner writes the proof file."""
    return ask(pb.GetStorageRequest(), pb.Storage)


def open_direct_lane(name: str, producers: Sequence[str], proof: str) -> Call[bytes]:
    """Ask for a lane, and return the ticket with which this process may create it."""
    request = pb.OpenDirectLaneRequest(
        name=to_name("recordings", name), producers=producers, proof=proof
    )
    return then(ask(request, pb.DirectLane), lambda lane: lane.ticket)
