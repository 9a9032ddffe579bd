"""Convert lanes and results of upkeep, where they differ from their messages."""

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.values.upkeep import LaneInfo, Quantisation
from isogloss.service.wire.convert import Joined, declare, from_message, to_message
from isogloss.store import LaneDescription, LaneSite, LaneState, Problem, QuantisationError

declare(QuantisationError, pb.QuantisationError, left_out=["site"])
declare(
    LaneSite,
    pb.LaneSite,
    joined=[
        Joined(
            "error",
            ("error",),
            lambda lane: None if lane.error is None else _error(lane.site, lane.error),
            lambda message: (
                from_message(message.error, QuantisationError)
                if message.HasField("error")
                else None,
            ),
        )
    ],
)
declare(
    Quantisation,
    pb.Quantisation,
    joined=[
        Joined(
            "errors",
            ("errors",),
            lambda result: [_error(site, error) for site, error in result.errors.items()],
            lambda message: (
                {error.site: from_message(error, QuantisationError) for error in message.errors},
            ),
        )
    ],
)
declare(Problem, pb.Problem, resources={"recording": "recordings"})


def _error(site: str, error: QuantisationError) -> pb.QuantisationError:
    message = to_message(error, pb.QuantisationError)
    message.site = site
    return message


def to_lane(lane: LaneDescription) -> pb.Lane:
    """Return a lane, as the store describes it, as a message."""
    state, seal = lane.state, lane.state.seal
    info = LaneInfo(
        name=state.name,
        rows=state.rows,
        cursors=state.cursors,
        sealed=seal is not None or state.is_lost,
        reason=_reason(state),
        damage="" if seal is None else seal.damage,
        sites=lane.sites,
        stored_bytes=lane.stored_bytes,
        direct=state.is_direct,
    )
    return to_message(info, pb.Lane)


def _reason(state: LaneState) -> str:
    if state.is_lost:
        return "lost"
    return "" if state.seal is None else state.seal.reason
