"""The records of a fenced lane: its birth, its commits, and the fence that ends it.

Where no lock can be trusted (network file systems, object stores) every step of a lane is the
exclusive creation of the next record of a sequence, so that of two writers one fails::

    births/<number>              frame 0: who is the lane of that number
    births/<number>.settled      its rows were moved to lanes/<lane>: the rest is litter
    commits/<lane>/<sequence>    one frame each, from 1; the last is the fence, never removed
    groups/<lane>/<site>.<n>     rows, without head; n counts the writer's tries

A fence takes the next sequence number of a lane away from its writer: whatever that writer does
later, it can acknowledge nothing any more. ``docs/store-format.md`` says what the frames hold.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData
from isogloss.store.disk.checksums import crc32c, file_crc32c
from isogloss.store.disk.filesystem import (
    FileSystem,
    read_file,
    read_files,
    read_range,
)
from isogloss.store.lanes.log_frames import (
    HEAD,
    KIND_COMMIT,
    KIND_LANE,
    MAGIC,
    ByteRange,
    CommitFrame,
    Frame,
    encode_frame,
    lane_payload,
    read_payload_json,
)
from isogloss.store.lanes.log_scan import CHECKED_BYTES, LaneHeader, reread_file
from isogloss.store.lanes.seal import Seal
from isogloss.store.schema.json_fields import SCHEMA_VERSION, get_count, get_text
from isogloss.store.schema.names import check_lane_name

_log = logging.getLogger(__name__)

BIRTHS, COMMITS, GROUPS = "births", "commits", "groups"
SETTLED = ".settled"
KIND_FENCE = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitNote:
    """What a reader keeps of a commit: where its rows are."""

    first_row: int
    """Rows of the lane before it."""

    rows: int
    """Rows it added."""

    ranges: tuple[ByteRange, ...]
    """One for each site: ``shard`` is the number n of its file in ``groups``."""

    cursors: Mapping[str, int]
    """Last sequence number of each producer that it advanced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fence:
    """The last record of a lane: it says that it ended, and no more than has to be known before."""

    owner: int
    """Epoch of the owner that wrote it."""

    reason: Literal["closed", "recovered"]
    """Ended by its writer, or by whoever took over."""

    commits: int | None = None
    """How many of the commits before count, where damage ended the lane early; None for all."""

    damage: str = ""
    """What was lost of acknowledged rows; empty when nothing was."""

    def to_dict(self) -> dict[str, object]:
        """Return the fence as a JSON object."""
        return {
            "schema_version": SCHEMA_VERSION,
            "owner": self.owner,
            "reason": self.reason,
            "commits": self.commits,
            "damage": self.damage,
        }

    @classmethod
    def from_payload(cls, payload: NDArray[np.uint8]) -> "Fence":
        """Read a fence; CorruptData when it is none."""
        document, _ = read_payload_json(payload)
        commits = document.get("commits")
        return cls(
            owner=get_count(document, "owner"),
            reason="closed" if document.get("reason") == "closed" else "recovered",
            commits=commits if isinstance(commits, int) else None,
            damage=get_text(document, "damage"),
        )


@dataclass(slots=True)
class FencedScan:
    """What the records of a lane prove."""

    header: LaneHeader
    """Its birth."""

    owner: int
    """Epoch of the store's owner that bore it."""

    commits: list[CommitNote] = field(default_factory=list[CommitNote])
    """Its commits, in order."""

    next: int = 1
    """Sequence number that is not taken yet; of the fence, once there is one."""

    rows: int = 0
    """Committed rows."""

    log_bytes: int = 0
    """Bytes of all frames read."""

    cursors: dict[str, int] = field(default_factory=dict[str, int])
    """Last sequence number of each producer."""

    fence: Seal | None = None
    """How the lane ended; None while it may go on."""


class LaneRecords:
    """Paths and contents of the records of one fenced lane.

    Args:
        files: where the recording lies.
        directory: of the recording.
        name: of the lane, ``<number>.<epoch>``.
    """

    def __init__(self, files: FileSystem, directory: Path, name: str) -> None:
        self.files = files
        self.directory = directory
        self.name = name

    @property
    def birth(self) -> Path:
        """Path of the record that this lane is the one of its number."""
        return self.directory / BIRTHS / self.name.partition(".")[0]

    @property
    def settled(self) -> Path:
        """Path of the mark that the lane's rows were moved to ``lanes``."""
        return self.birth.with_name(self.birth.name + SETTLED)

    @property
    def commits(self) -> Path:
        """Directory of the commits."""
        return self.directory / COMMITS / self.name

    @property
    def groups(self) -> Path:
        """Directory of the rows."""
        return self.directory / GROUPS / self.name

    def commit(self, sequence: int) -> Path:
        """Path of a commit or of the fence."""
        return self.commits / f"{sequence:016d}"

    def group(self, site: int, number: int) -> Path:
        """Path of the rows of one site of one commit."""
        return self.groups / f"{site}.{number:012d}"

    def frames(self, first: int) -> Iterator[Frame]:
        """Yield the frames of the commits and of the fence from sequence ``first`` on.

        Raises:
            CorruptData: a record cannot be read, or one before the last is missing.
        """
        names = set(self.files.names(self.commits))
        if names and not self.files.is_remote:
            self.files.sync_directory(self.commits)  # what is seen is durable
        paths: list[Path] = []
        while (path := self.commit(first + len(paths))).name in names:
            paths.append(path)
        epoch = self.name.partition(".")[2]
        for number, content in enumerate(read_files(self.files, paths), first):
            frame = parse_record(content, number, f"commit {number} of lane {self.name!r}")
            if f"{frame.epoch:016x}" != epoch:
                raise CorruptData(
                    f"commit {number} of lane {self.name!r} is of epoch {frame.epoch:016x}"
                )
            yield frame

    def read(self, rows: int) -> Iterator[CommitFrame]:
        """Yield the commits until ``rows`` rows are covered."""
        covered = 0
        if rows == 0:
            return
        for frame in self.frames(1):
            if frame.kind != KIND_COMMIT:
                return
            commit = CommitFrame.from_payload(frame.payload)
            covered += commit.rows
            yield commit
            if covered >= rows:
                return


def encode_record(
    kind: int, epoch: int, number: int, document: Mapping[str, object] | CommitFrame
) -> bytes:
    """Return a record as bytes."""
    payload = document.to_buffers() if isinstance(document, CommitFrame) else lane_payload(document)
    return b"".join(encode_frame(kind, epoch, number, payload))  # pyright: ignore[reportArgumentType] - numpy declares no __buffer__ before 3.12


def parse_record(content: bytes, number: int, what: str) -> Frame:
    """Return the one frame that a record holds.

    Raises:
        CorruptData: it holds something else, or does not match its checksum.
    """
    if len(content) < HEAD.size:
        raise CorruptData(f"{what} has {len(content)} bytes: run verify")
    magic, version, kind, epoch, found, length, wanted = HEAD.unpack_from(content)
    payload = np.frombuffer(content, np.uint8, offset=HEAD.size)
    if magic != MAGIC or version != SCHEMA_VERSION or length != len(payload) or found != number:
        raise CorruptData(f"{what} is no frame of {length} bytes: run verify")
    if crc32c(payload, crc32c(content[: HEAD.size - 4])) != wanted:
        raise CorruptData(f"{what} does not match its checksum: run verify")
    return Frame(kind=kind, epoch=epoch, number=found, offset=0, end=len(content), payload=payload)


def birth_record(header: LaneHeader, owner: int) -> bytes:
    """Return frame 0 of a fenced lane, which also names the owner's epoch."""
    return encode_record(KIND_LANE, header.epoch, 0, {**header.to_dict(), "owner": owner})


def read_birth(content: bytes, what: str) -> FencedScan:
    """Return what a birth record proves: a lane without commits.

    Raises:
        CorruptData: it is none.
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


def scan_records(records: LaneRecords, known: FencedScan) -> FencedScan:
    """Bring what is known of a lane up to date, in place.

    Raises:
        CorruptData: a record is damaged or out of turn.
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
        end_scan(known, fence)  # whoever fenced the lane cut it before the damage
    return known


def _last_fence(records: LaneRecords) -> Fence | None:
    """Return the fence of a lane if its last record is one."""
    names = [name for name in records.files.names(records.commits) if name.isdigit()]
    if not names:
        return None
    content = read_file(records.files, records.commits / names[-1])
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
    """End a lane where its fence says, which may be before commits that were damaged."""
    if fence.commits is not None:
        _cut(scan, fence.commits)
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


def _cut(scan: FencedScan, commits: int) -> None:
    """Forget all commits but the first so many."""
    del scan.commits[commits:]
    scan.rows = sum(note.rows for note in scan.commits)
    scan.cursors = {}
    for note in scan.commits:
        scan.cursors.update(note.cursors)


def fence_lane(records: LaneRecords, scan: FencedScan, owner: int) -> FencedScan:
    """End a lane whose writer is gone, or must be: nothing can be acknowledged there any more.

    Returns:
        The lane with its fence, by us or by somebody before us.

    Raises:
        CorruptData: its birth or a fence cannot be read.
        StorageError: the fence could not be written.
    """
    damage = ""
    try:
        scan = scan_records(records, scan)
    except CorruptData as error:
        damage = str(error)
    if scan.fence is not None:
        return scan
    bad = None if records.files.is_remote else _first_bad(records, scan)
    if bad is not None:
        damage = f"rows of commit {bad + 1} of lane {records.name!r} do not match their checksum"
        _cut(scan, bad)
    commits = len(scan.commits) if damage else None
    fence = Fence(owner=owner, reason="recovered", commits=commits, damage=damage)
    place = _create_fence(records, scan, fence)
    if damage:
        before = range(scan.next, place)
        if all(record_kind(records, sequence) != KIND_FENCE for sequence in before):
            _log.error("lane %s: cut to %d rows: %s", records.name, scan.rows, damage)
            scan.next = place
            end_scan(scan, fence)
            return scan
        scan = FencedScan(header=scan.header, owner=scan.owner)
    scan = scan_records(records, scan)
    if scan.next != place:  # somebody else's stands before ours, which then means nothing
        with contextlib.suppress(OSError):
            records.files.remove(records.commit(place))
    return scan


def _create_fence(records: LaneRecords, scan: FencedScan, fence: Fence) -> int:
    """Create a fence behind the last commit; return its sequence number.

    A writer that lives commits meanwhile, each time with two requests one after the other. A step
    here is one request and looks at nothing, so the fence overtakes the writer.
    """
    sequence = scan.next
    while True:
        content = encode_record(KIND_FENCE, scan.header.epoch, sequence, fence.to_dict())
        try:
            records.files.create_record(records.commit(sequence), content, look=False)
        except FileExistsError:
            sequence += 1
        else:
            return sequence


def record_kind(records: LaneRecords, sequence: int) -> int:
    """Return what kind a record says it is; its checksum is not looked at."""
    files = records.files
    descriptor = files.open(records.commit(sequence))
    try:
        if files.size(descriptor) < HEAD.size:
            return 0
        head = read_range(files, descriptor, 0, HEAD.size)
    finally:
        files.close(descriptor)
    return int(HEAD.unpack(head.tobytes())[2])


def _first_bad(records: LaneRecords, scan: FencedScan) -> int | None:
    """Return which of the last commits is the first whose rows are not on the disk."""
    first, length = len(scan.commits), 0
    while first > 0 and (first == len(scan.commits) or length < CHECKED_BYTES):
        first -= 1
        length += sum(written.length for written in scan.commits[first].ranges)
    for index in range(first, len(scan.commits)):
        for written in scan.commits[index].ranges:
            if group_problem(records, written, reread=True):
                return index
    return None


def group_problem(records: LaneRecords, written: ByteRange, *, reread: bool = False) -> str:
    """Check the rows that a commit wrote for one site; return what is wrong, empty for nothing.

    Args:
        records: of the lane.
        written: what the commit says of them.
        reread: sync the file and read it past the page cache.
    """
    files, path = records.files, records.group(written.site, written.shard)
    try:
        descriptor = files.open(path)
    except FileNotFoundError:
        return f"rows {path.name} are missing"
    try:
        if reread:
            reread_file(files, descriptor)
        if files.size(descriptor) != written.length:
            return f"rows {path.name} have {files.size(descriptor)} bytes, not {written.length}"
        checksum = file_crc32c(files, descriptor, written.offset, written.length)
    except CorruptData as error:
        return str(error)
    finally:
        files.close(descriptor)
    return "" if checksum == written.checksum else f"rows {path.name} do not match their checksum"


def read_births(
    files: FileSystem, directory: Path, known: dict[str, FencedScan]
) -> dict[str, bool]:
    """Return the lanes that were born, by name, and whether each was settled.

    Args:
        files: where the recording lies.
        directory: of the recording.
        known: scans by number of the lane; new ones are added.

    Raises:
        CorruptData: a birth cannot be read.
    """
    names = files.names(directory / BIRTHS)
    if not files.is_remote and names:
        files.sync_directory(directory / BIRTHS)
    numbers = [name for name in names if name.isdigit()]
    new = [number for number in numbers if number not in known]
    paths = [directory / BIRTHS / number for number in new]
    for number, content in zip(new, read_files(files, paths), strict=True):
        known[number] = read_birth(content, f"birth {number} of recording {directory.name}")
    settled = set(names)
    return {known[n].header.lane: n + SETTLED in settled for n in numbers}
