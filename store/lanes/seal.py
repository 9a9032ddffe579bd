"""The seal of a lane: how many rows it holds, and which lanes it was joined from."""

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from isogloss.errors import CorruptData, IsoglossError
from isogloss.store.disk import signed_json
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.lanes.lane_directory import MANIFEST_NAME, SEAL_NAME
from isogloss.store.schema.json_fields import (
    SCHEMA_VERSION,
    check_version,
    get_count,
    get_items,
    get_mapping,
    get_text,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class LanePart:
    """For a lane that was joined into another one: where its rows are in that lane."""

    lane: str
    """The lane that held the rows before; it no longer counts."""

    first_row: int
    """Its first row, counted in the lane that holds it now."""

    rows: int
    """Number of its rows."""

    first_document: int
    """Position of its first document among those of the lane that holds it now."""

    documents: int
    """Number of documents that it described."""

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
        """Read a part from a JSON array; CorruptData when the array has another form."""
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
    """The end of a lane: written once, it fixes how many rows the lane holds."""

    lane: str
    """Name of the lane."""

    epoch: int
    """Random number of the writer, as in its frames."""

    rows: int
    """Committed rows."""

    frames: int
    """Sound frames of the log, frame 0 included."""

    log_bytes: int
    """Position in the log where the last sound frame ends."""

    cursors: Mapping[str, int] = field(default_factory=dict[str, int])
    """Last sequence number of each producer that wrote here."""

    reason: Literal["closed", "recovered", "retired"]
    """Sealed by its writer, or after the writer's death; or its rows were removed to make room."""

    damage: str = ""
    """Says which acknowledged rows were lost; empty when none was."""

    parts: tuple[LanePart, ...] = ()
    """The lanes it was joined from, which older revisions name; they no longer count."""

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
    files.write_atomic(directory / SEAL_NAME, signed_json.encode(seal.to_dict()))


def read_seal(files: FileSystem, directory: Path) -> Seal | None:
    """Return the seal of a lane; None while the lane is not sealed.

    Args:
        files: the file system that the lane is on.
        directory: the lane's directory.

    Returns:
        The seal, or None.

    Raises:
        CorruptData: the seal cannot be read.
    """
    try:
        content = files.read_whole(directory / SEAL_NAME)
    except FileNotFoundError:
        return None
    return Seal.from_dict(signed_json.decode(content, f"seal of lane {directory.name!r}"))


def note_seal(files: FileSystem, recording: Path, seal: Seal) -> None:
    """Copy the seal of a lane to its entry in the recording's manifest.

    The copy says how many rows were lost, and where their producers were, should the lane's own
    files be lost. It is not synced, and errors are ignored: where it is torn or missing, that much
    is not known.

    Args:
        files: the file system that the recording is on.
        recording: the recording's directory.
        seal: the seal.
    """
    path = recording / MANIFEST_NAME / seal.lane
    content = signed_json.encode(seal.to_dict())
    with contextlib.suppress(OSError):
        if files.is_remote:
            files.write_atomic(path, content)
            return
        entry = files.open(path, write=True)
        try:
            files.write(entry, [content], 0)
            files.truncate(entry, len(content))
        finally:
            files.close(entry)


def noted_seal(files: FileSystem, recording: Path, lane: str) -> Seal | None:
    """Return the copy of a lane's seal in the manifest; None where there is none to be read."""
    try:
        content = files.read_whole(recording / MANIFEST_NAME / lane)
        return Seal.from_dict(signed_json.decode(content, f"manifest entry {lane!r}"))
    except (IsoglossError, OSError, ValueError):
        return None
