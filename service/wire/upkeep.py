"""Between messages and values: lanes, progress and results of care."""

from collections.abc import Mapping

from isogloss.errors import InvalidInput
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.values.upkeep import (
    CareProgress,
    Compression,
    Garbage,
    LaneInfo,
    Quantisation,
)
from isogloss.service.wire.recordings import from_name, to_name
from isogloss.store import Compaction, LaneDescription, LaneSite, Problem, QuantisationError, Tier

_TIERS: Mapping[Tier, pb.Tier.ValueType] = {
    "live": pb.TIER_LIVE,
    "sealed": pb.TIER_SEALED,
    "compressed": pb.TIER_COMPRESSED,
    "quantised": pb.TIER_QUANTISED,
}
_TIER_NAMES: Mapping[pb.Tier.ValueType, Tier] = {number: name for name, number in _TIERS.items()}


def to_lane(lane: LaneDescription) -> pb.Lane:
    """Return a lane as a message."""
    seal = lane.state.seal
    return pb.Lane(
        name=lane.state.name,
        rows=lane.state.rows,
        cursors=dict(lane.state.cursors),
        sealed=seal is not None,
        reason="" if seal is None else seal.reason,
        damage="" if seal is None else seal.damage,
        sites=[
            pb.LaneSite(
                site=site.site,
                tier=_TIERS[site.tier],
                stored_bytes=site.stored_bytes,
                error=None if site.error is None else to_error(site.site, site.error),
            )
            for site in lane.sites
        ],
        stored_bytes=lane.stored_bytes,
        direct=lane.state.is_direct,
    )


def from_lane(message: pb.Lane) -> LaneInfo:
    """Read a lane from a message."""
    return LaneInfo(
        name=message.name,
        rows=message.rows,
        cursors=dict(message.cursors),
        sealed=message.sealed,
        reason=message.reason,
        damage=message.damage,
        sites=tuple(
            LaneSite(
                site=site.site,
                tier=_tier(site.tier),
                stored_bytes=site.stored_bytes,
                error=from_error(site.error) if site.HasField("error") else None,
            )
            for site in message.sites
        ),
        stored_bytes=message.stored_bytes,
        direct=message.direct,
    )


def _tier(number: pb.Tier.ValueType) -> Tier:
    if number not in _TIER_NAMES:
        raise InvalidInput(
            f"tier is number {number}, wanted one of {_TIER_NAMES}: is the server newer than this?"
        )
    return _TIER_NAMES[number]


def to_error(site: str, error: QuantisationError) -> pb.QuantisationError:
    """Return the error of a site's rounded rows as a message."""
    return pb.QuantisationError(
        site=site,
        rows=error.rows,
        nonfinite=error.nonfinite,
        squared_error=error.squared_error,
        squared_norm=error.squared_norm,
        max_abs=error.max_abs,
    )


def from_error(message: pb.QuantisationError) -> QuantisationError:
    """Read the error of a site's rounded rows from a message."""
    return QuantisationError(
        rows=message.rows,
        nonfinite=message.nonfinite,
        squared_error=message.squared_error,
        squared_norm=message.squared_norm,
        max_abs=message.max_abs,
    )


def to_progress(progress: CareProgress) -> pb.CareProgress:
    """Return progress as a message."""
    return pb.CareProgress(step=progress.step, done=progress.done, total=progress.total)


def from_progress(message: pb.CareProgress) -> CareProgress:
    """Read progress from a message."""
    return CareProgress(step=message.step, done=message.done, total=message.total)


def to_problem(problem: Problem) -> pb.Problem:
    """Return a problem as a message."""
    name = to_name("recordings", problem.recording)
    return pb.Problem(recording=name, lane=problem.lane, message=problem.message)


def from_problem(message: pb.Problem) -> Problem:
    """Read a problem from a message."""
    recording = from_name("recordings", message.recording)
    return Problem(recording=recording, lane=message.lane, message=message.message)


def to_compaction(result: Compaction) -> pb.Compaction:
    """Return what compacting came to as a message."""
    return pb.Compaction(lanes=result.lanes, into=result.into, rows=result.rows)


def from_compaction(message: pb.Compaction) -> Compaction:
    """Read what compacting came to from a message."""
    return Compaction(lanes=message.lanes, into=message.into, rows=message.rows)


def to_compression(result: Compression) -> pb.Compression:
    """Return what compressing came to as a message."""
    return pb.Compression(
        sites=result.sites, bytes_before=result.bytes_before, bytes_after=result.bytes_after
    )


def from_compression(message: pb.Compression) -> Compression:
    """Read what compressing came to from a message."""
    return Compression(
        sites=message.sites, bytes_before=message.bytes_before, bytes_after=message.bytes_after
    )


def to_quantisation(result: Quantisation) -> pb.Quantisation:
    """Return what quantising came to as a message."""
    return pb.Quantisation(
        errors=[to_error(site, error) for site, error in result.errors.items()],
        bytes_before=result.bytes_before,
        bytes_after=result.bytes_after,
    )


def from_quantisation(message: pb.Quantisation) -> Quantisation:
    """Read what quantising came to from a message."""
    return Quantisation(
        errors={error.site: from_error(error) for error in message.errors},
        bytes_before=message.bytes_before,
        bytes_after=message.bytes_after,
    )


def from_garbage(message: pb.Garbage) -> Garbage:
    """Read what was removed from a message."""
    return Garbage(files=message.files, logs=message.logs)
