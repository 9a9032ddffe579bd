"""Verify: compare every stored byte of a recording with its checksum."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isogloss.errors import IsoglossError
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.formats.documents import read_documents
from isogloss.store.formats.zarr_arrays import ArrayFile, read_arrays
from isogloss.store.lanes.files import LaneFiles, read_header, read_step_runs
from isogloss.store.lanes.lane_directory import COLUMNS_NAME, DOCUMENTS_NAME, LOG_NAME
from isogloss.store.lanes.log_frames import CommitFrame, read_frames
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.lanes.seal import Seal
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.byte_range import ByteRange, matches_checksum
from isogloss.store.shards.layout import (
    array_metadata,
    compressed_directory,
    shard_key,
    site_directory,
)
from isogloss.store.shards.quantised import QuantisedRows, quantised_directory, read_error


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A stored file or row that differs from what was written."""

    recording: str
    """Resource id of the recording."""

    lane: str
    """Name of the lane; empty for the recording itself."""

    message: str
    """Says what is wrong: the value found, and the value wanted."""


class LaneVerifier:
    """Checks one lane and reports every problem, not only the first."""

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        spec: RecordingSpec,
        seal: Seal | None,
        rows: int,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._on_bytes = on_bytes
        self._files = files
        self._directory = directory
        self._spec = spec
        self._seal = seal
        self._rows = rows

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each problem of the lane."""
        if self._seal is not None and self._seal.damage:
            yield f"acknowledged rows were lost when it was sealed: {self._seal.damage}"
        if self._seal is not None and self._seal.reason == "retired":
            yield from self._document_problems()  # the other files are removed, or about to be
            return
        try:
            header = read_header(self._files, self._directory)
        except (IsoglossError, OSError, ValueError) as error:
            yield str(error)
            return
        yield from self._log_problems()
        yield from self._shard_problems(header)
        yield from self._derived_problems()

    def _log_problems(self) -> Iterator[str]:
        """Check frames against the seal, and the bytes they name against their checksums."""
        log = self._files.open(self._directory / LOG_NAME)
        rows, frames, end = 0, 0, 0
        try:
            for frame in read_frames(self._files, log):
                if self._seal is not None and frame.number >= self._seal.frames:
                    break
                frames, end = frames + 1, frame.end
                if frame.number == 0:
                    continue
                commit = CommitFrame.from_payload(frame.payload)
                rows += commit.rows
                for written in commit.ranges:
                    if self._on_bytes is not None:
                        self._on_bytes(written.length)
                    if not self._is_sound(written):
                        yield (
                            f"site {self._spec.sites[written.site].name!r}: bytes "
                            f"[{written.offset}, {written.offset + written.length}) of shard "
                            f"{written.shard} do not match their checksum (frame {frame.number})"
                        )
        finally:
            self._files.close(log)
        if rows < self._rows:
            yield f"the log proves {rows} rows, wanted {self._rows}: frame {frames} is broken"
        if self._seal is not None and (frames, end) != (self._seal.frames, self._seal.log_bytes):
            yield (
                f"the log has {frames} sound frames in {end} bytes, its seal says "
                f"{self._seal.frames} in {self._seal.log_bytes}"
            )

    def _quantised_problems(self, index: int) -> Iterator[str]:
        """Check every chunk of quantised rows, their number and the note of their error."""
        try:
            read_error(self._files, self._directory, index)
            site = self._spec.sites[index]
            QuantisedRows(self._files, self._directory, index, site, self._rows)
        except (IsoglossError, OSError) as error:
            yield f"{quantised_directory(index)}: {error}"
        for name in self._files.names(self._directory / quantised_directory(index)):
            path = self._directory / quantised_directory(index) / name
            if self._files.is_directory(path):
                yield from self._try(
                    f"{quantised_directory(index)}/{name}", lambda p=path: _read_all(self._files, p)
                )

    def _compressed_problems(self, index: int) -> Iterator[str]:
        """Check the metadata of compressed rows; their chunks were read with the log."""
        path = self._directory / compressed_directory(index) / "zarr.json"
        try:
            shape = json.loads(self._files.read_whole(path))["shape"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield f"{path.parent.name}/zarr.json cannot be read: {error}"
            return
        if shape != [self._rows, self._spec.sites[index].width]:
            yield f"{path.parent.name}/zarr.json has shape {shape}, wanted {self._rows} rows"

    def _is_sound(self, written: ByteRange) -> bool:
        """Whether the rows of a commit match their checksum, compressed or not."""
        lane = LaneFiles(self._files, self._directory, self._spec, self._rows)
        if lane.is_quantised(written.site):
            return True  # what the log's checksum covered is gone; _quantised_problems reads it
        if not lane.is_compressed(written.site):
            return matches_checksum(self._files, self._directory, written)
        layout = lane.header.layouts[written.site]
        rows = np.empty((written.length // layout.row_bytes, layout.row_bytes), np.uint8)
        first = (written.offset - layout.data_offset) // layout.row_bytes
        try:
            lane.read_into(written.site, written.shard * layout.shard_rows + first, rows)
        except (IsoglossError, OSError):
            return False
        return crc32c(rows) == written.checksum

    def _shard_problems(self, header: LaneHeader) -> Iterator[str]:
        """Check the part of each shard that no commit covers: its index and its length."""
        lane = LaneFiles(self._files, self._directory, self._spec, self._rows)
        for index, (site, layout) in enumerate(zip(self._spec.sites, header.layouts, strict=True)):
            directory = self._directory / site_directory(index)
            if lane.is_quantised(index):
                yield from self._quantised_problems(index)
                continue
            if lane.is_compressed(index):
                yield from self._compressed_problems(index)
                continue
            if self._seal is not None:
                wanted = array_metadata(site, layout, self._rows)
                yield from _check_metadata(self._files, directory / "zarr.json", wanted)
            for shard in range(-(-self._rows // layout.shard_rows)):
                rows = min(layout.shard_rows, self._rows - shard * layout.shard_rows)
                try:
                    content = self._files.read_whole(directory / shard_key(shard))
                except OSError as error:
                    yield f"site {site.name!r}: shard {shard} cannot be read: {error}"
                    continue
                if content[: layout.data_offset] != layout.head():
                    yield f"site {site.name!r}: the index of shard {shard} is not what was written"
                if len(content) < layout.padded_bytes(rows):
                    yield (
                        f"site {site.name!r}: shard {shard} has {len(content)} bytes, wanted "
                        f"{layout.padded_bytes(rows)}"
                    )

    def _derived_problems(self) -> Iterator[str]:
        directory = self._directory
        yield from self._document_problems()
        for name in self._files.names(directory):
            if name.startswith("statistics-"):
                path = directory / name
                yield from self._try(name, lambda p=path: read_arrays(p, files=self._files))
        columns = directory / COLUMNS_NAME
        yield from self._try(COLUMNS_NAME, lambda: read_step_runs(self._files, columns, self._rows))
        for name in self._files.names(columns):
            if self._files.is_directory(columns / name):
                path = columns / name
                yield from self._try(
                    f"{COLUMNS_NAME}/{name}", lambda p=path: _read_all(self._files, p)
                )

    def _document_problems(self) -> Iterator[str]:
        documents = self._directory / DOCUMENTS_NAME
        yield from self._try(DOCUMENTS_NAME, lambda: read_documents(self._files, documents))

    def _try(self, name: str, read: Callable[[], object]) -> Iterator[str]:
        if not self._files.exists(self._directory / name):
            return
        try:
            read()
        except (IsoglossError, OSError) as error:
            yield f"{name}: {error}"


def _check_metadata(files: FileSystem, path: Path, wanted: bytes) -> Iterator[str]:
    try:
        if json.loads(files.read_whole(path)) != json.loads(wanted):
            yield f"{path.parent.name}/zarr.json is not what was written"
    except (OSError, ValueError) as error:
        yield f"{path.parent.name}/zarr.json cannot be read: {error}"


def _read_all(files: FileSystem, path: Path) -> int:
    """Read an array in parts; return the sum of its bytes, so that every byte is used."""
    array = ArrayFile(files, path)
    total = 0
    for start in range(0, array.rows, 1 << 20):
        part = array.read(start, min(start + (1 << 20), array.rows))
        total += int(np.ascontiguousarray(part).view(np.uint8).sum(dtype=np.int64))
    return total
