"""The records of a fenced lane: its birth, its commits, and the fence that ends it.

Where no lock can be trusted (network file systems, object stores) every step of a lane is the
exclusive creation of the next record of a sequence, so that of two writers one fails::

    births/<number>              frame 0: which lane has that number
    births/<number>.settled      its rows were moved to lanes/<lane>; the files below are left over
    commits/<lane>/<sequence>    one frame each, from 1; the last is the fence, never removed
    groups/<lane>/<site>.<n>     rows, without head; n counts the writer's tries

The fence takes the next sequence number of the lane, so the lane's writer can no longer create a
commit, and acknowledges nothing any more. ``docs/store-format.md`` says what the frames hold.
"""

import logging
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, MissingRecord
from isogloss.store.disk.checksums import crc32c, file_crc32c
from isogloss.store.disk.filesystem import FileSystem, read_files, read_range, sync_and_drop_cache
from isogloss.store.lanes.log_frames import (
    HEAD,
    KIND_COMMIT,
    KIND_LANE,
    MAGIC,
    CommitFrame,
    Frame,
    encode_frame,
    lane_payload,
    read_payload_json,
)
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.schema.json_fields import SCHEMA_VERSION, get_count, get_text
from isogloss.store.shards.byte_range import ByteRange

_log = logging.getLogger(__name__)

BIRTHS, COMMITS, GROUPS = "births", "commits", "groups"
MOVED = ".settled"
KIND_FENCE = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitNote:
    """The part of a commit that is kept in memory: its producers, and where its rows are."""

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
    """The last record of a lane: it ends the lane."""

    owner: int
    """Epoch of the owner that wrote it."""

    reason: Literal["closed", "recovered"]
    """Ended by its writer, or by the next owner of the store."""

    commits: int | None = None
    """Number of commits before it that count, where damage ended the lane early; None: all."""

    damage: str = ""
    """Says which acknowledged rows were lost; empty when none was."""

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
        """Read a fence; CorruptData when the payload has another form."""
        document, _ = read_payload_json(payload)
        commits = document.get("commits")
        return cls(
            owner=get_count(document, "owner"),
            reason="closed" if document.get("reason") == "closed" else "recovered",
            commits=commits if isinstance(commits, int) else None,
            damage=get_text(document, "damage"),
        )


class LaneRecords:
    """Paths and contents of the records of one fenced lane.

    Args:
        files: the file system that the recording is on.
        directory: the recording's directory.
        name: the lane's name, ``<number>.<epoch>``.
    """

    def __init__(self, files: FileSystem, directory: Path, name: str) -> None:
        self.files = files
        self.directory = directory
        self.name = name

    @property
    def birth(self) -> Path:
        """Path of the record that says which lane has this number."""
        return self.directory / BIRTHS / self.name.partition(".")[0]

    @property
    def moved(self) -> Path:
        """Path of the file that says that the lane's rows were moved to shards."""
        return self.birth.with_name(self.birth.name + MOVED)

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
        """Read the commits and the fence from sequence ``first`` on.

        Args:
            first: sequence number of the first wanted.

        Yields:
            Their frames, in order.

        Raises:
            CorruptData: a record is damaged, or is of another lane.
        """
        names = set(self.files.names(self.commits))
        if names and not self.files.is_remote:
            self.files.sync_directory(self.commits)  # makes durable what was seen
        paths: list[Path] = []
        while (path := self.commit(first + len(paths))).name in names:
            paths.append(path)
        self._check_gap(first + len(paths), names)
        epoch = self.name.partition(".")[2]
        for number, content in enumerate(read_files(self.files, paths), first):
            frame = parse_record(content, number, f"commit {number} of lane {self.name!r}")
            if f"{frame.epoch:016x}" != epoch:
                raise CorruptData(
                    f"commit {number} of lane {self.name!r} is of epoch {frame.epoch:016x}"
                )
            yield frame

    def _check_gap(self, following: int, names: Set[str]) -> None:
        """Raise MissingRecord where a record is not there and a later one is.

        A listing may hold a record that was created while it was made and not the one before, so
        the names are read again before that is believed.
        """
        missing = self.commit(following)
        later = [name for name in names if name.isdigit() and name > missing.name]
        if later and not self.files.exists(missing):
            raise MissingRecord(
                f"commit {following} of lane {self.name!r} is missing, though {min(later)} is "
                f"there: restore {missing} from a copy; verify names the rest"
            )

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
    """Read a record, which holds one frame.

    Args:
        content: the record's bytes.
        number: sequence number of the record.
        what: name of the record, as error messages show it.

    Returns:
        The frame.

    Raises:
        CorruptData: the record holds anything but one frame of that number with a right checksum.
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
    """Return frame 0 of a fenced lane, which also holds the epoch of the store's owner."""
    return encode_record(KIND_LANE, header.epoch, 0, {**header.to_dict(), "owner": owner})


def record_kind(records: LaneRecords, sequence: int) -> int:
    """Return the kind that a record's head names; the checksum is not compared."""
    files = records.files
    descriptor = files.open(records.commit(sequence))
    try:
        if files.size(descriptor) < HEAD.size:
            return 0
        head = read_range(files, descriptor, 0, HEAD.size)
    finally:
        files.close(descriptor)
    return int(HEAD.unpack(head.tobytes())[2])


def group_problem(records: LaneRecords, written: ByteRange, *, reread: bool = False) -> str:
    """Check the rows that a commit wrote for one site.

    Args:
        records: the lane's records.
        written: where the rows are, and their checksum, as the commit says.
        reread: whether to sync the file first, and to read it from the disk, not from the page
            cache.

    Returns:
        A sentence that says what is wrong; empty if nothing is.
    """
    files, path = records.files, records.group(written.site, written.shard)
    try:
        descriptor = files.open(path)
    except FileNotFoundError:
        return f"rows {path.name} are missing"
    try:
        if reread:
            sync_and_drop_cache(files, descriptor)
        if files.size(descriptor) != written.length:
            return f"rows {path.name} have {files.size(descriptor)} bytes, not {written.length}"
        checksum = file_crc32c(files, descriptor, written.offset, written.length)
    except CorruptData as error:
        return str(error)
    finally:
        files.close(descriptor)
    return "" if checksum == written.checksum else f"rows {path.name} do not match their checksum"
