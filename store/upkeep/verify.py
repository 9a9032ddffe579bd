"""Verify: compare every stored byte of a recording with its checksum."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isogloss.errors import CorruptData, IsoglossError
from isogloss.short_repr import short_repr
from isogloss.store.disk.filesystem import FileSystem, read_range
from isogloss.store.formats.documents import read_documents
from isogloss.store.formats.zarr_arrays import ArrayFile, read_arrays
from isogloss.store.lanes.files import LaneFiles, read_header, read_step_runs
from isogloss.store.lanes.lane_directory import COLUMNS_NAME, DOCUMENTS_NAME, LOG_NAME
from isogloss.store.lanes.log_frames import CommitFrame, Frame, find_frame_after, read_frames
from isogloss.store.lanes.seal import Seal
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.byte_range import matches_checksum
from isogloss.store.shards.layout import (
    ShardLayout,
    array_metadata,
    compressed_directory,
    shard_key,
    site_directory,
)
from isogloss.store.shards.quantised import QuantisedRows, quantised_directory, read_error
from isogloss.store.upkeep.compressed_rows import CompressedRows
from isogloss.store.upkeep.shard_numbers import missing_shards, shard_numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A stored file or row that differs from what was written."""

    recording: str
    """Resource id of the recording."""

    lane: str
    """Name of the lane; empty for the recording itself."""

    message: str
    """Says what is wrong: the value found, and the value wanted."""

    __repr__ = short_repr


class LaneVerifier:
    """Checks one lane and reports every problem, not only the first.

    The work and the memory follow from what is on the disk: of a count in a file nothing is walked
    or allocated that the files of the lane do not hold.

    Args:
        files: the file system that the lane is on.
        directory: the lane's directory.
        spec: the recording's specification.
        seal: the lane's seal; None where it has none, or none that can be read.
        rows: how many rows the lane should have; None: as many as its log proves.
        on_bytes: called with the number of bytes of rows that were checked, commit by commit.
    """

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        spec: RecordingSpec,
        seal: Seal | None,
        rows: int | None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._on_bytes = on_bytes
        self._files = files
        self._directory = directory
        self._spec = spec
        self._seal = seal
        self._wanted = rows
        self._rows = rows or 0
        self._compressed: dict[int, CompressedRows] = {}
        lane = LaneFiles(files, directory, spec, 0)
        self._is_quantised = [lane.is_quantised(site) for site in range(len(spec.sites))]
        self._is_compressed = [lane.is_compressed(site) for site in range(len(spec.sites))]

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each problem of the lane."""
        if self._seal is not None and self._seal.damage:
            yield f"acknowledged rows were lost when it was sealed: {self._seal.damage}"
        if self._seal is not None and self._seal.reason == "retired":
            yield from self._document_problems()  # the other files are removed, or about to be
            return
        layouts: tuple[ShardLayout, ...] = ()
        try:
            layouts = read_header(self._files, self._directory).layouts
            if len(layouts) != len(self._spec.sites):
                yield f"the log describes {len(layouts)} sites, wanted {len(self._spec.sites)}"
                layouts = ()
        except (IsoglossError, OSError, ValueError) as error:
            yield str(error)
        yield from self._log_problems(layouts)
        yield from self._shard_problems(layouts)
        yield from self._derived_problems()

    def _log_problems(self, layouts: tuple[ShardLayout, ...]) -> Iterator[str]:
        """Check frames against the seal, and the bytes they name against their checksums."""
        try:
            log = self._files.open(self._directory / LOG_NAME)
        except FileNotFoundError:
            return  # said already, as the header stands in it
        try:
            if self._wanted is None:
                commits = (commit for _, commit in self._frames(log))
                ends = (c.first_row + c.rows for c in commits if isinstance(c, CommitFrame))
                self._rows = max(ends, default=0)
            self._compressed = {
                site: CompressedRows(
                    self._files,
                    self._directory,
                    site,
                    self._spec.sites[site].name,
                    layout,
                    self._rows,
                )
                for site, layout in enumerate(layouts)
                if self._is_compressed[site] and not self._is_quantised[site]
            }
            rows, frames, end = 0, 0, 0
            for frame, commit in self._frames(log):
                if frame.number == frames:  # not behind a broken one
                    frames, end = frames + 1, frame.end
                    rows += commit.rows if isinstance(commit, CommitFrame) else 0
                if isinstance(commit, CommitFrame):
                    yield from self._commit_problems(frame, commit)
                elif commit is not None:
                    yield f"frame {frame.number}: {commit}"
        finally:
            self._files.close(log)
        if rows < self._rows:
            yield f"the log proves {rows} rows, wanted {self._rows}: frame {frames} is broken"
        if self._seal is not None and (frames, end) != (self._seal.frames, self._seal.log_bytes):
            yield (
                f"the log has {frames} sound frames in {end} bytes, its seal says "
                f"{self._seal.frames} in {self._seal.log_bytes}"
            )

    def _frames(self, log: int) -> Iterator[tuple[Frame, CommitFrame | CorruptData | None]]:
        """Yield the sound frames of the log that count, also those behind a broken one.

        Each comes with its commit, or with the error where it is none; frame 0 with None.
        """
        epoch = self._epoch()
        start = first = 0
        was_found = False
        while True:
            is_read = False
            for frame in read_frames(self._files, log, start=start, first=first, epoch=epoch):
                is_read = True
                commit = _parse(frame)
                if self._is_behind(frame, commit):
                    return
                yield frame, commit
                start, first, epoch = frame.end, frame.number + 1, frame.epoch
            if epoch is None or (was_found and not is_read):  # none where one was found
                return
            later = find_frame_after(self._files, log, start=start, number=first, epoch=epoch)
            if later is None:
                return
            start, first, was_found = later.offset, later.number, True

    def _epoch(self) -> int | None:
        """Return the epoch of the lane's frames, which its name holds too."""
        if self._seal is not None:
            return self._seal.epoch
        try:
            return int(self._directory.name.partition(".")[2], 16)
        except ValueError:
            return None

    def _is_behind(self, frame: Frame, commit: CommitFrame | CorruptData | None) -> bool:
        """Whether a frame came after the rows that are being checked."""
        if self._seal is not None:
            return frame.number >= self._seal.frames
        if self._wanted is None or not isinstance(commit, CommitFrame):
            return False
        return commit.first_row >= self._wanted

    def _commit_problems(self, frame: Frame, commit: CommitFrame) -> Iterator[str]:
        """Compare the rows of a commit with their checksums."""
        for written in commit.ranges:
            if self._on_bytes is not None:
                self._on_bytes(written.length)
            if not 0 <= written.site < len(self._spec.sites):
                yield f"frame {frame.number} names site {written.site} of {len(self._spec.sites)}"
            elif self._is_quantised[written.site]:
                continue  # what the log's checksum covered is gone; _quantised_problems reads it
            elif self._is_compressed[written.site]:
                rows = self._compressed.get(written.site)
                found = () if rows is None else rows.problems(written)
                yield from (f"{problem} (frame {frame.number})" for problem in found)
            elif not matches_checksum(self._files, self._directory, written):
                yield (
                    f"site {self._spec.sites[written.site].name!r}: bytes "
                    f"[{written.offset}, {written.offset + written.length}) of shard "
                    f"{written.shard} do not match their checksum (frame {frame.number})"
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
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            yield f"{path.parent.name}/zarr.json cannot be read: {error}"
            return
        if shape != [self._rows, self._spec.sites[index].width]:
            yield f"{path.parent.name}/zarr.json has shape {shape}, wanted {self._rows} rows"

    def _shard_problems(self, layouts: tuple[ShardLayout, ...]) -> Iterator[str]:
        """Check the part of each shard that no commit covers: its index and its length."""
        for index, site in enumerate(self._spec.sites):
            if self._is_quantised[index]:
                yield from self._quantised_problems(index)
            elif self._is_compressed[index]:
                yield from self._compressed_problems(index)
                if index in self._compressed:
                    yield from self._compressed[index].rest()
                else:
                    yield f"{compressed_directory(index)}: not read, as the lane's log is damaged"
            elif index < len(layouts):
                if self._seal is not None:
                    wanted = array_metadata(site, layouts[index], self._rows)
                    path = self._directory / site_directory(index) / "zarr.json"
                    yield from _check_metadata(self._files, path, wanted)
                yield from self._raw_problems(index, layouts[index])

    def _raw_problems(self, index: int, layout: ShardLayout) -> Iterator[str]:
        """Check that the shards of a site are there, whole, and begin with their index."""
        name, directory = self._spec.sites[index].name, self._directory / site_directory(index)
        wanted = -(-self._rows // layout.shard_rows)
        there = shard_numbers(self._files, directory)
        for first, last in missing_shards(there, wanted):
            which = f"shard {first}" if first == last else f"shards {first} to {last}"
            yield f"site {name!r}: {which} cannot be read: missing"
        for shard in there:
            if shard >= wanted:
                continue
            rows = min(layout.shard_rows, self._rows - shard * layout.shard_rows)
            try:
                size, head = _read_head(self._files, directory / shard_key(shard), layout)
            except (IsoglossError, OSError) as error:
                yield f"site {name!r}: shard {shard} cannot be read: {error}"
                continue
            if size >= layout.data_offset and head != layout.head():
                yield f"site {name!r}: the index of shard {shard} is not what was written"
            if size < layout.padded_bytes(rows):
                yield (
                    f"site {name!r}: shard {shard} has {size} bytes, wanted "
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
    except (OSError, ValueError, RecursionError) as error:
        yield f"{path.parent.name}/zarr.json cannot be read: {error}"


def _parse(frame: Frame) -> CommitFrame | CorruptData | None:
    """Return the commit of a frame, or why it is none; None for frame 0, which is no commit."""
    if frame.number == 0:
        return None
    try:
        return CommitFrame.from_payload(frame.payload)
    except CorruptData as error:
        return error


def _read_head(files: FileSystem, path: Path, layout: ShardLayout) -> tuple[int, bytes]:
    """Return the length of a shard, and the bytes before its rows as far as it has them."""
    descriptor = files.open(path)
    try:
        size = files.size(descriptor)
        return size, read_range(files, descriptor, 0, min(size, layout.data_offset)).tobytes()
    finally:
        files.close(descriptor)


def _read_all(files: FileSystem, path: Path) -> int:
    """Read an array in parts; return the sum of its bytes, so that every byte is used."""
    parts = ArrayFile(files, path).blocks()
    return sum(int(np.ascontiguousarray(p).view(np.uint8).sum(dtype=np.int64)) for p in parts)
