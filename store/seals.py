"""How a lane begins and ends: its header, its seal, and what becomes of one whose writer died."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from isogloss.errors import CorruptData
from isogloss.store import signed_json
from isogloss.store.filesystem import FileSystem, read_file, write_atomic
from isogloss.store.frames import (
    find_frame_after,
)
from isogloss.store.scanning import LaneScan, is_sound, reread_file, scan_log
from isogloss.store.shards import array_metadata, shard_key, site_directory
from isogloss.store.specs import (
    SCHEMA_VERSION,
    RecordingSpec,
    check_version,
    get_count,
    get_items,
    get_mapping,
    get_text,
)

_log = logging.getLogger(__name__)

LOG_NAME = "commit.log"
SEAL_NAME = "seal.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class LanePart:
    """Where the rows of a lane that was joined into another one stand now."""

    lane: str
    """Name the rows had before; that lane counts no more."""

    first_row: int
    """Where they start in the lane that holds them."""

    rows: int
    """How many there are."""

    first_document: int
    """Where its documents start among those of the lane that holds them."""

    documents: int
    """How many documents it described."""

    def shifted(self, rows: int, documents: int) -> "LanePart":
        """Return the part as it stands in a lane with so many rows and documents before."""
        return replace(
            self,
            first_row=self.first_row + rows,
            first_document=self.first_document + documents,
        )

    def to_json(self) -> list[object]:
        """Return the part as a JSON array."""
        return [self.lane, self.first_row, self.rows, self.first_document, self.documents]

    @classmethod
    def from_json(cls, item: object) -> "LanePart":
        """Read a part from a JSON array; CorruptData when it is none."""
        match item:
            case [str() as lane, int() as row, int() as rows, int() as first, int() as documents]:
                if min(row, rows, first, documents) >= 0:
                    return cls(
                        lane=lane,
                        first_row=row,
                        rows=rows,
                        first_document=first,
                        documents=documents,
                    )
            case _:
                pass
        raise CorruptData(
            f"part {item!r} of a joined lane is not [lane, first row, rows, first document, "
            "documents]: run verify"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Seal:
    """The end of a lane: how many rows it holds, once and for all."""

    lane: str
    """Name of the lane."""

    epoch: int
    """The writer's life."""

    rows: int
    """Committed rows."""

    frames: int
    """Sound frames of the log, frame 0 included."""

    log_bytes: int
    """Where the last of them ends."""

    cursors: Mapping[str, int] = field(default_factory=dict[str, int])
    """Last sequence number of each producer that wrote here."""

    reason: Literal["closed", "recovered", "retired"]
    """Sealed by its writer, or after the writer's death; or its rows were removed to make room."""

    damage: str = ""
    """What was lost of acknowledged rows; empty when nothing was."""

    parts: tuple[LanePart, ...] = ()
    """The lanes it was joined from, whose names older revisions know; those count no more."""

    def part(self, lane: str) -> LanePart | None:
        """Return where the rows of a lane stand in this one; None when it holds none of them."""
        return next((part for part in self.parts if part.lane == lane), None)

    def to_dict(self) -> dict[str, object]:
        """Return the seal as a JSON object."""
        document: dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "lane": self.lane,
            "epoch": f"{self.epoch:016x}",
            "rows": self.rows,
            "frames": self.frames,
            "log_bytes": self.log_bytes,
            "cursors": dict(self.cursors),
            "reason": self.reason,
            "damage": self.damage,
        }
        if self.parts:
            document["parts"] = [part.to_json() for part in self.parts]
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> "Seal":
        """Read a seal from a JSON object."""
        check_version(document, "seal")
        cursors = get_mapping(document, "cursors")
        return cls(
            lane=get_text(document, "lane"),
            epoch=int(get_text(document, "epoch"), 16),
            rows=get_count(document, "rows"),
            frames=get_count(document, "frames"),
            log_bytes=get_count(document, "log_bytes"),
            cursors={name: get_count(cursors, name) for name in cursors},
            reason=_reason(get_text(document, "reason")),
            damage=get_text(document, "damage"),
            parts=tuple(LanePart.from_json(item) for item in _parts(document)),
        )


def _parts(document: Mapping[str, object]) -> list[object]:
    return get_items(document, "parts") if "parts" in document else []


def _reason(text: str) -> Literal["closed", "recovered", "retired"]:
    match text:
        case "closed" | "recovered" | "retired":
            return text
        case _:
            raise CorruptData(f"a seal's reason is {text!r}: run verify")


def write_seal(files: FileSystem, directory: Path, seal: Seal) -> None:
    """Make a seal durable."""
    write_atomic(files, directory / SEAL_NAME, signed_json.encode(seal.to_dict()))


def read_seal(files: FileSystem, directory: Path) -> Seal | None:
    """Return the seal of a lane, or None while it has none.

    Raises:
        CorruptData: there is one and it cannot be read.
    """
    try:
        content = read_file(files, directory / SEAL_NAME)
    except FileNotFoundError:
        return None
    return Seal.from_dict(signed_json.decode(content, f"seal of lane {directory.name!r}"))


def settle_lane(
    files: FileSystem, directory: Path, spec: RecordingSpec, *, is_fenced: bool = False
) -> Seal | None:
    """Seal a lane whose writer is gone, at the last commit that the disk really holds.

    After a failed sync Linux may show bytes that no disk holds, so everything is synced, dropped
    from the page cache and read again before it is believed.

    Args:
        files: where the lane lies.
        directory: of the lane.
        spec: of its recording.
        is_fenced: its writer can acknowledge nothing any more, so its lock does not matter.

    Returns:
        The seal, old or new; None while its writer lives, or when it was never fully created.

    Raises:
        CorruptData: the seal or a sound frame makes no sense.
    """
    seal = read_seal(files, directory)
    if seal is not None:
        return seal
    try:
        log = files.open(directory / LOG_NAME, write=True)
    except FileNotFoundError:
        return None
    try:
        if not files.lock(log) and not is_fenced:
            return None
        reread_file(files, log)
        scan = scan_log(files, log, keep_tail=True)
        if is_fenced:  # a writer that hangs may have gone on between the sync and the scan
            files.sync_data(log)
        if scan is None:
            return None
        later = find_frame_after(
            files, log, start=scan.log_bytes, number=scan.frames, epoch=scan.header.epoch
        )
        damage = "" if later is None else f"frame {scan.frames} is broken, frame {later.number} not"
        bad = _first_bad_commit(files, directory, scan)
        if bad is not None:
            is_last = bad == len(scan.tail) - 1 and later is None
            damage = damage if is_last else f"data of frame {scan.frames - len(scan.tail) + bad}"
            scan = scan_log(files, log, stop=scan.tail[bad][1])
            if scan is None:
                raise CorruptData("the log lost its frame 0 while it was being read")
        return _write_recovered(files, directory, spec, scan, damage)
    except FileNotFoundError as error:
        raise CorruptData(f"lane {directory.name!r} lost a file: {error}; run verify") from error
    finally:
        files.close(log)


def _first_bad_commit(files: FileSystem, directory: Path, scan: LaneScan) -> int | None:
    """Return which commit of the tail is the first whose bytes do not match; None if all do."""
    synced: set[tuple[int, int]] = set()
    for index, (commit, _, _) in enumerate(scan.tail):
        for written in commit.ranges:
            is_new = (written.site, written.shard) not in synced
            if not is_sound(files, directory, written, reread=is_new):
                return index
            synced.add((written.site, written.shard))
    return None


def _write_recovered(
    files: FileSystem, directory: Path, spec: RecordingSpec, scan: LaneScan, damage: str
) -> Seal:
    """Bring files, metadata and seal of a dead lane to its proven rows."""
    for index, (site, layout) in enumerate(zip(spec.sites, scan.header.layouts, strict=True)):
        metadata = array_metadata(site, layout, scan.rows)
        write_atomic(files, directory / site_directory(index) / "zarr.json", metadata)
        if scan.rows % layout.shard_rows:
            shard = scan.rows // layout.shard_rows
            length = layout.padded_bytes(scan.rows % layout.shard_rows)
            path = directory / site_directory(index) / shard_key(shard)
            _fit(files, path, length)
    seal = Seal(
        lane=scan.header.lane,
        epoch=scan.header.epoch,
        rows=scan.rows,
        frames=scan.frames,
        log_bytes=scan.log_bytes,
        cursors=scan.cursors,
        reason="recovered",
        damage=damage,
    )
    if damage:
        _log.error("lane %s of %s: cut to %d rows: %s", seal.lane, directory, seal.rows, damage)
    write_seal(files, directory, seal)
    return seal


def _fit(files: FileSystem, path: Path, length: int) -> None:
    """Give a shard whole inner chunks, and give back what its writer had reserved ahead."""
    descriptor = files.open(path, write=True)
    try:
        if files.size(descriptor) != length:
            files.truncate(descriptor, length)
            files.sync_data(descriptor)
    finally:
        files.close(descriptor)


def is_being_born(files: FileSystem, directory: Path) -> bool:
    """Whether a writer holds the log of a lane, which it locks before anything else."""
    try:
        log = files.open(directory / LOG_NAME, write=True)
    except FileNotFoundError:
        return False
    try:
        return files.is_locked(log)
    finally:
        files.close(log)


def lane_names(files: FileSystem, directory: Path) -> Sequence[str]:
    """Return the names of the lanes below ``lanes/``, in the order their rows are numbered."""
    return [name for name in files.names(directory) if not name.startswith(".")]
