"""The calls about direct lanes: where the storage is, make a lane, end a lane."""

from collections.abc import Sequence

from isogloss.proto.v1 import recordings_pb2
from isogloss.service.transport.plans import Plan, ask
from isogloss.service.wire import methods
from isogloss.service.wire.recordings import to_name


def storage() -> Plan[recordings_pb2.Storage]:
    """Return where the store lies on the owner's machine, and how to prove to see it."""
    return (yield from ask(methods.GET_STORAGE, recordings_pb2.GetStorageRequest()))


def open_direct_lane(name: str, producers: Sequence[str], proof: str) -> Plan[bytes]:
    """Return the ticket of a new lane."""
    request = recordings_pb2.OpenDirectLaneRequest(
        name=to_name("recordings", name), producers=producers, proof=proof
    )
    return (yield from ask(methods.OPEN_DIRECT_LANE, request)).ticket


def end_direct_lane(name: str, lane: str) -> Plan[dict[str, int]]:
    """End a lane; returns the last durable sequence number of each of its producers."""
    request = recordings_pb2.EndDirectLaneRequest(name=to_name("recordings", name), lane=lane)
    return dict((yield from ask(methods.END_DIRECT_LANE, request)).cursors)
