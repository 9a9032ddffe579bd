"""Read the log of a lane and sum up the commits in it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from isogloss.errors import CorruptData
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.lanes.log_frames import CommitFrame, Frame, read_frames, read_payload_json
from isogloss.store.schema.json_fields import (
    SCHEMA_VERSION,
    check_version,
    get_items,
    get_text,
    is_mapping,
)
from isogloss.store.shards.byte_range import matches_checksum
from isogloss.store.shards.layout import ShardLayout

CHECKED_BYTES = 256 << 20
"""Of a dead lane at least the last commit is read again, and before it about this much at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneHeader:
    """Frame 0 of a lane's log."""

    recording: str
    """Uid of the recording."""

    lane: str
    """Name of the lane."""

    epoch: int
    """Random number of the writer, in every frame."""

    layouts: tuple[ShardLayout, ...]
    """For each site, how many rows a shard and an inner chunk hold."""

    created_s: float
    """Wall clock; nothing depends on it."""

    def to_dict(self) -> dict[str, object]:
        """Return the header as a JSON object."""
        return {
            "schema_version": SCHEMA_VERSION,
            "recording": self.recording,
            "lane": self.lane,
            "epoch": f"{self.epoch:016x}",
            "layouts": [layout.to_dict() for layout in self.layouts],
            "created_s": self.created_s,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> "LaneHeader":
        """Read a header from a JSON object."""
        check_version(document, "lane")
        layouts = [item for item in get_items(document, "layouts") if is_mapping(item)]
        return cls(
            recording=get_text(document, "recording"),
            lane=get_text(document, "lane"),
            epoch=int(get_text(document, "epoch"), 16),
            layouts=tuple(ShardLayout.from_dict(item) for item in layouts),
            created_s=float(str(document.get("created_s", 0))),
        )


@dataclass(slots=True)
class LaneScan:
    """Sum of the commits read from a lane's log."""

    header: LaneHeader
    """The lane's frame 0."""

    frames: int = 1
    """How many frames were read, frame 0 included; all complete and undamaged."""

    log_bytes: int = 0
    """Position in the log where the last of these frames ends."""

    rows: int = 0
    """Committed rows."""

    cursors: dict[str, int] = field(default_factory=dict[str, int])
    """Last sequence number of each producer."""

    tail: list[tuple[CommitFrame, int, int]] = field(
        default_factory=list[tuple[CommitFrame, int, int]]
    )
    """The last commits with their ``[start, end)`` in the log, newest last."""

    def add(self, commit: CommitFrame, end: int) -> None:
        """Count the next commit, whose frame ends at byte ``end`` of the log."""
        self.rows += commit.rows
        self.frames += 1
        self.log_bytes = end
        self.cursors.update(commit.cursors)


def unscanned(files: FileSystem, log: int, known: LaneScan | None) -> Iterator[tuple[Frame, bool]]:
    """Yield the frames of a log that ``known`` does not cover, and whether each is the newest."""
    if known is None:
        frames = read_frames(files, log)
    else:
        epoch = known.header.epoch
        frames = read_frames(files, log, start=known.log_bytes, first=known.frames, epoch=epoch)
    held: Frame | None = None
    for frame in frames:
        if held is not None:
            yield held, False
        held = frame
    if held is not None:
        yield held, True


def scan_log(
    files: FileSystem,
    descriptor: int,
    *,
    known: LaneScan | None = None,
    keep_tail: bool = False,
    stop: int | None = None,
    is_whole: Callable[[CommitFrame], bool] | None = None,
) -> LaneScan | None:
    """Read the log of a lane up to the first frame that is incomplete, damaged or out of order.

    A log is a list of frames: frame 0 describes the lane, and each later frame is one commit.

    Args:
        files: the file system that the log is on.
        descriptor: the open log.
        known: result of an earlier scan of the same log: reading goes on behind it, and it is
            changed. None: read from frame 0.
        keep_tail: also keep the newest commits, whose rows take about 256 MiB together, in
            ``tail``: the caller wants to check these rows.
        stop: count no frame that ends behind this byte of the log; None for no limit.
        is_whole: called with the newest commit, and says whether its rows are on the disk. If it
            returns False, that commit is left out. Commits before it are counted without a call: a
            writer writes a frame only after the one before and its rows are durable.

    Returns:
        The commits found, summed up; None while frame 0 is not complete.

    Raises:
        CorruptData: the first row of a commit is not the next after the commit before.
    """
    scan = known
    for frame, is_newest in unscanned(files, descriptor, known):
        if stop is not None and frame.end > stop:
            break
        if scan is None:
            document, _ = read_payload_json(frame.payload)
            scan = LaneScan(header=LaneHeader.from_dict(document), log_bytes=frame.end)
            continue
        commit = CommitFrame.from_payload(frame.payload)
        if commit.first_row != scan.rows:
            raise CorruptData(
                f"frame {frame.number} of lane {scan.header.lane!r} starts at row "
                f"{commit.first_row}, wanted {scan.rows}: run verify"
            )
        if is_newest and is_whole is not None and not is_whole(commit):
            break
        scan.add(commit, frame.end)
        if keep_tail:
            scan.tail.append((commit, frame.offset, frame.end))
            _trim(scan.tail)
    return scan


def is_durable(files: FileSystem, directory: Path, log: int, newest: CommitFrame) -> bool:
    """Force the newest commit of a lane to the disk, and check that its rows arrived there.

    For a lane that another process writes. That process may have written the commit's log frame and
    rows without having synced them, so that they are in the page cache only. This syncs the log and
    the files of the rows, reads the rows again from the disk, and compares their checksums with
    those that the commit holds.

    Args:
        files: the file system that the lane is on.
        directory: the lane's directory.
        log: the lane's open log, from which the commit was read.
        newest: the lane's newest commit.

    Returns:
        Whether all rows of the commit match their checksums.
    """
    files.sync_data(log)
    return all(
        matches_checksum(files, directory, written, reread=True) for written in newest.ranges
    )


def _trim(tail: list[tuple[CommitFrame, int, int]]) -> None:
    """Drop the oldest commits, as long as those after them hold 256 MiB of rows to check."""
    sizes = [sum(r.length for r in commit.ranges) for commit, _, _ in tail]
    while len(tail) > 1 and sum(sizes[1:]) > CHECKED_BYTES:
        tail.pop(0)
        sizes.pop(0)
