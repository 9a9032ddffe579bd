"""Tickets, which the owner of a store gives to a process that writes a direct lane.

A ticket names one lane that was never written, and holds all that its writer has to know. It is a
signed JSON document. The owner also stores its bytes in ``recordings/<uid>/direct/<lane>.json``. A
writer that finds them there knows that it sees the same storage; a lane without them is not read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr
from isogloss.store.disk import signed_json
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.schema.json_fields import SCHEMA_VERSION, get_count, get_mapping, get_text
from isogloss.store.schema.names import check_lane_name, check_uid
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.layout import ShardLayout

TICKETS_NAME = "direct"
"""Directory of a recording in which tickets lie."""

MAX_PRODUCERS = 256
_MAX_NAME = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectLaneTicket:
    """One lane that a process other than the store's owner may write, once."""

    recording: str
    """Uid of the recording."""

    lane: str
    """Name of the lane: its number, and the random number (epoch) in all its frames."""

    spec: RecordingSpec
    """Specification of the recording."""

    shard_bytes: int
    """About how large a shard becomes."""

    cursors: Mapping[str, int]
    """The producers that may write here, each with its last durable sequence number so far."""

    limits: LaneLimits
    """How large the recording may grow; the writer checks it before each group of batches."""

    rows_before: int
    """Rows of the recording when the lane was offered; ``limits.max_rows`` counts them."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        check_uid(self.recording)
        check_lane_name(self.lane)
        check_producers(self.cursors)
        if min(self.cursors.values()) < 0 or self.rows_before < 0 or self.shard_bytes < 1:
            raise InvalidInput(
                f"a ticket's cursors {dict(self.cursors)}, rows_before {self.rows_before} and "
                f"shard_bytes {self.shard_bytes} must not be negative"
            )

    @property
    def epoch(self) -> int:
        """Random number of the writer, in every frame."""
        return int(self.lane.partition(".")[2], 16)

    @property
    def directory(self) -> str:
        """The lane's directory, relative to the store's root."""
        return f"recordings/{self.recording}/lanes/{self.lane}"

    @property
    def file(self) -> str:
        """Path of the ticket itself, relative to the store's root."""
        return f"recordings/{self.recording}/{TICKETS_NAME}/{self.lane}.json"

    @property
    def layouts(self) -> tuple[ShardLayout, ...]:
        """For each site, how many rows a shard and an inner chunk hold."""
        return tuple(ShardLayout.for_site(site, self.shard_bytes) for site in self.spec.sites)

    def to_bytes(self) -> bytes:
        """Return the ticket as the bytes of a file, with a checksum of itself."""
        limits = {field.name: getattr(self.limits, field.name) for field in fields(self.limits)}
        return signed_json.encode(
            {
                "schema_version": SCHEMA_VERSION,
                "recording": self.recording,
                "lane": self.lane,
                "directory": self.directory,
                "spec": self.spec.to_dict(),
                "shard_bytes": self.shard_bytes,
                "cursors": dict(self.cursors),
                "limits": limits,
                "rows_before": self.rows_before,
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> "DirectLaneTicket":
        """Read a ticket from the bytes that :meth:`to_bytes` returned.

        Args:
            content: the bytes.

        Returns:
            The ticket.

        Raises:
            CorruptData: the bytes are no JSON, or were changed on the way.
            UnsupportedVersion: the ticket's schema version is not one that this release reads.
            InvalidInput: a field is missing, or the ticket names another directory than its lane's.
        """
        document = signed_json.decode(content, "ticket of a direct lane")
        cursors = get_mapping(document, "cursors")
        limits = get_mapping(document, "limits")
        ticket = cls(
            recording=get_text(document, "recording"),
            lane=get_text(document, "lane"),
            spec=RecordingSpec.from_dict(get_mapping(document, "spec")),
            shard_bytes=get_count(document, "shard_bytes"),
            cursors={name: get_count(cursors, name) for name in cursors},
            limits=LaneLimits(
                max_rows=_optional(limits, "max_rows"),
                max_bytes=_optional(limits, "max_bytes"),
                free_bytes=get_count(limits, "free_bytes"),
            ),
            rows_before=get_count(document, "rows_before"),
        )
        directory = get_text(document, "directory")
        if directory != ticket.directory:
            raise InvalidInput(
                f"the ticket points to {directory!r}, wanted {ticket.directory!r}: it was not made "
                "by the owner of the store"
            )
        return ticket

    def is_header(self, header: LaneHeader) -> bool:
        """Whether a lane's frame 0 describes the lane of this ticket."""
        found = (header.recording, header.lane, header.epoch, header.layouts)
        return found == (self.recording, self.lane, self.epoch, self.layouts)

    def path(self, root: Path) -> Path:
        """Return where the lane belongs below a store's root."""
        return root / self.directory


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectLaneHeader(LaneHeader):
    """Frame 0 of a direct lane.

    It says that the lane is direct, so that the lane is not read without a ticket.
    """

    def to_dict(self) -> dict[str, object]:
        """Return the header as a JSON object."""
        # not super(): without arguments that does not work in a dataclass with slots
        return {**LaneHeader.to_dict(self), "direct": True}


def ticket_path(tickets: Path, lane: str) -> Path:
    """Return the path of the ticket of a lane."""
    return tickets / f"{lane}.json"


def fence_path(tickets: Path, lane: str) -> Path:
    """Return the path of the fence: while it is there, the owner has ended the direct lane."""
    return tickets / f"{lane}.fence"


def begun_path(tickets: Path, lane: str) -> Path:
    """Return the file that a writer creates to take its ticket; it fails if it is there."""
    return tickets / f"{lane}.begun"


def accepted_path(tickets: Path, lane: str) -> Path:
    """Return the file that says that the owner checked all of a sealed direct lane."""
    return tickets / f"{lane}.accepted"


def check_producers(producers: Mapping[str, int]) -> None:
    """Raise InvalidInput for producers that cannot share a lane; the message says which."""
    if not 1 <= len(producers) <= MAX_PRODUCERS:
        raise InvalidInput(
            f"a direct lane has {len(producers)} producers, wanted 1 to {MAX_PRODUCERS}"
        )
    for name in producers:
        if not 1 <= len(name) <= _MAX_NAME:
            raise InvalidInput(
                f"producer name has {len(name)} characters, wanted 1 to {_MAX_NAME}, such as "
                "'rank-0'"
            )


def _optional(document: Mapping[str, object], key: str) -> int | None:
    return None if document.get(key) is None else get_count(document, key)
