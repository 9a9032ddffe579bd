"""Read the records of a fenced lane: its first record, its commits and its end."""

from dataclasses import dataclass, field
from pathlib import Path

from isogloss.errors import CorruptData
from isogloss.store.disk.filesystem import FileSystem, read_files
from isogloss.store.fenced.records import (
    BIRTHS,
    KIND_FENCE,
    MOVED,
    CommitNote,
    Fence,
    LaneRecords,
    parse_record,
)
from isogloss.store.lanes.log_frames import KIND_LANE, CommitFrame, read_payload_json
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.lanes.seal import Seal
from isogloss.store.schema.json_fields import get_count
from isogloss.store.schema.names import check_lane_name


@dataclass(slots=True)
class FencedScan:
    """Sum of the records of a lane that were read so far."""

    header: LaneHeader
    """Header of the lane, from its first record."""

    owner: int
    """Epoch of the store's owner that created it."""

    commits: list[CommitNote] = field(default_factory=list[CommitNote])
    """Its commits, in order."""

    next: int = 1
    """Sequence number of the record that comes next; of the fence, once there is one."""

    rows: int = 0
    """Committed rows."""

    log_bytes: int = 0
    """Bytes of all frames read."""

    cursors: dict[str, int] = field(default_factory=dict[str, int])
    """Last sequence number of each producer."""

    fence: Seal | None = None
    """The record that ended the lane; None while the lane goes on."""


def read_birth(content: bytes, what: str) -> FencedScan:
    """Read a lane's first record, by which the lane came into being.

    Args:
        content: the record's bytes.
        what: name of the record, as error messages show it.

    Returns:
        The lane's header in a scan (what was read of a lane so far) that counts no commits yet.

    Raises:
        CorruptData: the bytes are damaged, or are a record of another kind.
    """
    frame = parse_record(content, 0, what)
    if frame.kind != KIND_LANE:
        raise CorruptData(f"{what} is a frame of kind {frame.kind}: run verify")
    try:
        document, _ = read_payload_json(frame.payload)
        header = LaneHeader.from_dict(document)
        check_lane_name(header.lane)
        return FencedScan(header=header, owner=get_count(document, "owner"), log_bytes=frame.end)
    except ValueError as error:
        raise CorruptData(f"{what} cannot be read: {error}") from error


def read_births(
    files: FileSystem, directory: Path, known: dict[str, FencedScan]
) -> dict[str, bool]:
    """Find the lanes of a recording by their first records.

    Args:
        files: the file system that the recording is on.
        directory: the recording's directory.
        known: scans of lanes found earlier, by number of the lane; those of new lanes are added.

    Returns:
        For each lane's name, whether its rows were moved to shards.

    Raises:
        CorruptData: a record cannot be read.
    """
    names = files.names(directory / BIRTHS)
    if not files.is_remote and names:
        files.sync_directory(directory / BIRTHS)
    numbers = [name for name in names if name.isdigit()]
    new = [number for number in numbers if number not in known]
    paths = [directory / BIRTHS / number for number in new]
    for number, content in zip(new, read_files(files, paths), strict=True):
        known[number] = read_birth(content, f"birth {number} of recording {directory.name}")
    there = set(names)
    return {known[n].header.lane: n + MOVED in there for n in numbers}


def scan_records(records: LaneRecords, known: FencedScan) -> FencedScan:
    """Read the records of a lane that came after a scan, and add them to the scan.

    Args:
        records: the lane's records.
        known: the scan; it is changed.

    Returns:
        ``known``.

    Raises:
        CorruptData: a record is damaged or does not follow the one before.
    """
    if known.fence is not None:
        return known
    try:
        for frame in records.frames(known.next):
            if frame.kind == KIND_FENCE:
                end_scan(known, Fence.from_payload(frame.payload))
                break
            add_commit(known, CommitFrame.from_payload(frame.payload), frame.end)
    except CorruptData:
        fence = _last_fence(records)
        if fence is None or fence.commits is None or fence.commits > len(known.commits):
            raise
        end_scan(known, fence)  # the lane was fenced before the damage
    return known


def _last_fence(records: LaneRecords) -> Fence | None:
    """Return the fence of a lane if its last record is one."""
    names = [name for name in records.files.names(records.commits) if name.isdigit()]
    if not names:
        return None
    content = records.files.read_whole(records.commits / names[-1])
    try:
        frame = parse_record(content, int(names[-1]), f"commit {names[-1]}")
    except CorruptData:
        return None
    return Fence.from_payload(frame.payload) if frame.kind == KIND_FENCE else None


def add_commit(scan: FencedScan, commit: CommitFrame, length: int) -> None:
    """Count one more commit; CorruptData when it does not follow the last."""
    if commit.first_row != scan.rows:
        raise CorruptData(
            f"commit {scan.next} of lane {scan.header.lane!r} starts at row {commit.first_row}, "
            f"wanted {scan.rows}: run verify"
        )
    scan.commits.append(
        CommitNote(
            first_row=commit.first_row,
            rows=commit.rows,
            ranges=commit.ranges,
            cursors=commit.cursors,
        )
    )
    scan.next += 1
    scan.rows += commit.rows
    scan.log_bytes += length
    scan.cursors.update(commit.cursors)


def end_scan(scan: FencedScan, fence: Fence) -> None:
    """End a scan as the fence says, which may be before commits that were damaged."""
    if fence.commits is not None:
        cut_scan(scan, fence.commits)
    scan.fence = Seal(
        lane=scan.header.lane,
        epoch=scan.header.epoch,
        rows=scan.rows,
        frames=1 + len(scan.commits),
        log_bytes=scan.log_bytes,
        cursors=dict(scan.cursors),
        reason=fence.reason,
        damage=fence.damage,
    )


def cut_scan(scan: FencedScan, commits: int) -> None:
    """Remove all but the first ``commits`` commits from a scan."""
    del scan.commits[commits:]
    scan.rows = sum(note.rows for note in scan.commits)
    scan.cursors = {}
    for note in scan.commits:
        scan.cursors.update(note.cursors)
