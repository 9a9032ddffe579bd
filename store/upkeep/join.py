"""Compaction: neighbouring sealed lanes are joined into one; older revisions are still read.

The joined lane is written under a hidden name, read back from the disk and checked. One rename then
makes it count; from then on the lanes that its seal names do not count. Their files are removed
only once the rename is durable. So after any crash each row is in the old lanes or in the new one,
and never counts twice. In stores without locks the lane is written under its own name, and a record
(:mod:`isogloss.store.fenced.joins`) makes it count.
"""

import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, NotFound
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem, write_new
from isogloss.store.lanes.files import LaneFiles, read_commits
from isogloss.store.lanes.lane_directory import LOG_NAME
from isogloss.store.lanes.lane_statistics import (
    read_statistics,
    statistics_directory,
    write_statistics,
)
from isogloss.store.lanes.log_frames import (
    KIND_COMMIT,
    KIND_LANE,
    CommitFrame,
    encode_frame,
    lane_payload,
)
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.lanes.seal import LanePart, Seal, write_seal
from isogloss.store.lanes.state import LaneState
from isogloss.store.lanes.statistics import SiteStatistics
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.byte_range import ByteRange
from isogloss.store.shards.layout import ShardLayout, array_metadata, shard_key, site_directory
from isogloss.store.upkeep.derive import derive_columns
from isogloss.store.upkeep.tiers import compress_site
from isogloss.store.upkeep.verify import LaneVerifier

SHARDS_PER_LANE = 16
"""Up to how many shards of its widest site lanes are joined when nothing else is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compaction:
    """Result of :meth:`Recording.compact`."""

    lanes: int
    """How many lanes were joined."""

    into: int
    """How many lanes they became."""

    rows: int
    """How many rows were written again."""


def plan_runs(
    states: Sequence[LaneState], max_rows: int, is_joinable: Callable[[LaneState], bool]
) -> list[list[LaneState]]:
    """Return which neighbouring lanes to join: runs of at least two, up to ``max_rows`` rows.

    Args:
        states: the lanes in row order.
        max_rows: most rows of a joined lane.
        is_joinable: says whether a lane may be joined; one that may not ends a run.

    Returns:
        The runs, in row order.

    Raises:
        InvalidInput: ``max_rows`` is not positive.
    """
    if max_rows < 1:
        raise InvalidInput(f"max_rows {max_rows} must be at least 1, or None for the default")
    runs: list[list[LaneState]] = [[]]
    for state in states:
        if not is_joinable(state):
            runs.append([])
            continue
        if sum(s.rows for s in runs[-1]) + state.rows > max_rows:
            runs.append([])
        runs[-1].append(state)
    return [run for run in runs if len(run) > 1]


class LaneJoiner:
    """Joins one run of lanes into one.

    Args:
        files: the file system that the recording is on.
        lanes: the directory of the recording's lanes.
        spec: the recording's specification.
        run: the lanes to join, sealed, in row order.
        is_named: whether to write the joined lane under its final name, since a record, not its
            name, makes it count.
    """

    def __init__(
        self,
        files: FileSystem,
        lanes: Path,
        spec: RecordingSpec,
        run: Sequence[LaneState],
        *,
        is_named: bool = False,
    ) -> None:
        self._files = files
        self._lanes = lanes
        self._spec = spec
        self._run = list(run)
        self._parts: list[LanePart] = []
        self._documents = 0
        self._rows = 0
        epoch = secrets.randbits(64)
        self.name = f"{run[0].name.partition('.')[0]}.{epoch:016x}"
        """Of the joined lane; its number is that of the first lane, so it sorts where that did."""
        self._partial = lanes / (self.name if is_named else f".{self.name}.partial")
        first = LaneFiles(files, lanes / run[0].name, spec, run[0].rows).header
        self._header = LaneHeader(
            recording=first.recording,
            lane=self.name,
            epoch=epoch,
            layouts=first.layouts,
            created_s=files.time_s(),
        )

    def write(self, on_rows: Callable[[str, int], None]) -> Seal:
        """Write the joined lane and read it back. It does not count before :meth:`publish`.

        Args:
            on_rows: called after each commit that was copied, with the old lane's name and the
                bytes of its rows. If it raises, the work stops and nothing has changed.

        Returns:
            The joined lane's seal.

        Raises:
            CorruptData: rows do not match their checksums, before or after copying; nothing has
                changed.
        """
        self._files.remove_tree(self._partial)
        self._files.make_directory(self._partial)
        try:
            with contextlib.closing(
                _LaneCopy(self._files, self._partial, self._spec, self._header)
            ) as copy:
                for state in self._run:
                    self._add_lane(copy, state, on_rows)
                self._rows, frames, log_bytes = copy.finish()
            seal = self._seal(frames, log_bytes)
            self._derive(seal)
            write_seal(self._files, self._partial, seal)
            self._check(seal)
        except BaseException:
            self.abandon()
            raise
        return seal

    def abandon(self) -> None:
        """Remove the joined lane again. Call this only before :meth:`publish`."""
        with contextlib.suppress(OSError):
            self._files.remove_tree(self._partial)

    def publish(self) -> None:
        """Give the joined lane its name: from now on it counts instead of its parts."""
        if self._partial.name != self.name:
            self._files.replace(self._partial, self._lanes / self.name)
        self._files.sync_directory(self._lanes)

    def _add_lane(
        self, copy: "_LaneCopy", state: LaneState, on_rows: Callable[[str, int], None]
    ) -> None:
        lane = LaneFiles(self._files, self._lanes / state.name, self._spec, state.rows)
        first_row, first_document = copy.rows, self._documents
        for commit in read_commits(self._files, lane.directory, state.rows):
            copy.add(lane, commit)
            self._documents += len(commit.documents)
            on_rows(state.name, commit.rows * self._spec.row_bytes)
        if copy.rows - first_row != state.rows:
            raise CorruptData(
                f"the log of lane {state.name!r} proves {copy.rows - first_row} rows, wanted "
                f"{state.rows}: run verify"
            )
        older = () if state.seal is None or state.is_direct else state.seal.parts
        self._parts += [part.shifted(first_row, first_document) for part in older]
        self._parts.append(
            LanePart(
                lane=state.name,
                first_row=first_row,
                rows=state.rows,
                first_document=first_document,
                documents=self._documents - first_document,
            )
        )

    def _seal(self, frames: int, log_bytes: int) -> Seal:
        cursors: dict[str, int] = {}
        damage: list[str] = []
        for state in self._run:
            for producer, sequence in state.cursors.items():
                cursors[producer] = max(sequence, cursors.get(producer, 0))
            if state.seal is not None and state.seal.damage:
                damage.append(f"{state.name}: {state.seal.damage}")
        return Seal(
            lane=self.name,
            epoch=self._header.epoch,
            rows=self._rows,
            frames=frames,
            log_bytes=log_bytes,
            cursors=cursors,
            reason="closed",
            damage="; ".join(damage),
            parts=tuple(self._parts),
        )

    def _derive(self, seal: Seal) -> None:
        """Write columns, documents and statistics; compress sites that were compressed before."""
        derive_columns(self._files, self._partial, self._spec, seal.rows)
        filled = [state for state in self._run if state.rows]
        old = [LaneFiles(self._files, self._lanes / s.name, self._spec, s.rows) for s in filled]
        for site, site_spec in enumerate(self._spec.sites):
            with contextlib.suppress(NotFound):
                total = SiteStatistics.empty(site_spec.width)
                for lane in old:
                    directory = statistics_directory(lane.directory, site)
                    total = total.merge(read_statistics(self._files, directory))
                directory = statistics_directory(self._partial, site)
                write_statistics(self._files, directory, total, seal.rows)
            if any(lane.is_compressed(site) for lane in old):
                joined = LaneFiles(self._files, self._partial, self._spec, seal.rows)
                compress_site(joined, self._files, self._partial, site)

    def _check(self, seal: Seal) -> None:
        """Read the joined lane back from the disk."""
        _drop_cached(self._files, self._partial)
        sound = replace(seal, damage="")
        verifier = LaneVerifier(self._files, self._partial, self._spec, sound, seal.rows)
        problems = list(verifier.problems())
        if problems:
            raise CorruptData(
                f"lanes {self._run[0].name!r} to {self._run[-1].name!r} came back changed when "
                f"they were joined, and stay as they were: {problems[0]}"
            )


class _LaneCopy:
    """Writes a lane from the commits of other lanes. It counts once it is sealed and published."""

    def __init__(
        self, files: FileSystem, directory: Path, spec: RecordingSpec, header: LaneHeader
    ) -> None:
        self._files = files
        self._directory = directory
        self._spec = spec
        self._header = header
        self._shards: dict[int, tuple[int, int]] = {}
        self._frames = 1
        self.rows = 0
        """Rows so far."""
        for index in range(len(spec.sites)):
            files.make_directory(directory / site_directory(index))
            files.make_directory(directory / site_directory(index) / "c")
        self._log: int | None = files.create(directory / LOG_NAME)
        frame = encode_frame(KIND_LANE, header.epoch, 0, lane_payload(header.to_dict()))
        files.write(self._log, frame, 0)
        self._log_bytes = sum(len(piece) for piece in frame)

    def close(self) -> None:
        """Close what is open; later calls do nothing."""
        for _, descriptor in self._shards.values():
            self._files.close(descriptor)
        self._shards = {}
        if self._log is not None:
            self._files.close(self._log)
            self._log = None

    def add(self, lane: LaneFiles, commit: CommitFrame) -> None:
        """Copy one commit; CorruptData when its rows do not match their checksums."""
        ranges: list[ByteRange] = []
        rows = dict.fromkeys(range(len(self._spec.sites)), self.rows)
        for written in commit.ranges:
            content = _read_checked(lane, written)
            ranges += self._write(written.site, rows[written.site], content)
            rows[written.site] += len(content)
        if self._log is None or set(rows.values()) != {self.rows + commit.rows}:
            raise CorruptData(
                f"commit at row {commit.first_row} of lane {lane.name!r} does not write its "
                f"{commit.rows} rows to every site: run verify"
            )
        frame = CommitFrame(
            first_row=self.rows,
            rows=commit.rows,
            time_s=commit.time_s,
            cursors=commit.cursors,
            ranges=tuple(ranges),
            columns=commit.columns,
            documents=commit.documents,
        )
        epoch = self._header.epoch
        pieces = encode_frame(KIND_COMMIT, epoch, self._frames, frame.to_buffers())
        self._files.write(self._log, pieces, self._log_bytes)
        self._log_bytes += sum(len(piece) for piece in pieces)
        self._frames += 1
        self.rows += commit.rows

    def _write(self, site: int, row: int, content: NDArray[np.uint8]) -> list[ByteRange]:
        """Write rows of a site from a row of the lane on; one range for each shard."""
        layout = self._header.layouts[site]
        ranges: list[ByteRange] = []
        done = 0
        while done < len(content):
            shard, offset = layout.row_offset(row + done)
            room = layout.shard_rows - (row + done) % layout.shard_rows
            piece = content[done : done + room].reshape(-1)
            self._files.write(self._shard(site, shard), [piece], offset)
            ranges.append(
                ByteRange(
                    site=site,
                    shard=shard,
                    offset=offset,
                    length=len(piece),
                    checksum=crc32c(piece),
                )
            )
            done += room
        return ranges

    def _shard(self, site: int, number: int) -> int:
        current = self._shards.get(site)
        if current is not None and current[0] == number:
            return current[1]
        if current is not None:
            self._finish_shard(site, self._header.layouts[site].shard_rows)
        path = self._directory / site_directory(site) / shard_key(number)
        self._files.make_directory(path.parent)
        descriptor = self._files.create(path)
        self._shards[site] = (number, descriptor)
        self._files.write(descriptor, [self._header.layouts[site].head()], 0)
        self._files.sync_directory(path.parent)
        return descriptor

    def _finish_shard(self, site: int, rows: int) -> None:
        """Extend a shard to a whole inner chunk, sync and close it."""
        _, descriptor = self._shards.pop(site)
        try:
            self._files.truncate(descriptor, self._header.layouts[site].padded_bytes(rows))
            self._files.sync_data(descriptor)
        finally:
            self._files.close(descriptor)

    def finish(self) -> tuple[int, int, int]:
        """Sync everything but the lane's own name; return its rows, frames and bytes of log."""
        for site, (number, _) in list(self._shards.items()):
            layout = self._header.layouts[site]
            self._finish_shard(site, self.rows - number * layout.shard_rows)
        for index, site in enumerate(self._spec.sites):
            directory = self._directory / site_directory(index)
            metadata = array_metadata(site, self._header.layouts[index], self.rows)
            write_new(self._files, directory / "zarr.json", [metadata])
            self._files.sync_directory(directory / "c")
            self._files.sync_directory(directory)
        if self._log is not None:
            self._files.sync_data(self._log)
        self._files.sync_directory(self._directory)
        return self.rows, self._frames, self._log_bytes


def _read_checked(lane: LaneFiles, written: ByteRange) -> NDArray[np.uint8]:
    """Return the rows of a range of a commit, ``[rows, row_bytes]``, compressed or not."""
    layout = lane.header.layouts[written.site]
    rows = np.empty((written.length // layout.row_bytes, layout.row_bytes), np.uint8)
    first = (written.offset - layout.data_offset) // layout.row_bytes
    lane.read_into(written.site, written.shard * layout.shard_rows + first, rows)
    if crc32c(rows) != written.checksum:
        raise CorruptData(
            f"bytes [{written.offset}, {written.offset + written.length}) of shard "
            f"{written.shard} of site {lane.spec.sites[written.site].name!r} in lane "
            f"{lane.name!r} do not match their checksum: run verify"
        )
    return rows


def default_max_rows(layouts: Sequence[ShardLayout]) -> int:
    """Return up to how many rows lanes are joined when nothing else is said."""
    return SHARDS_PER_LANE * min(layout.shard_rows for layout in layouts)


def _drop_cached(files: FileSystem, path: Path) -> None:
    """Drop every file below a directory from the page cache."""
    if files.is_remote:  # which keeps nothing of a file that is not open
        return
    for name in files.names(path):
        if files.is_directory(path / name):
            _drop_cached(files, path / name)
        else:
            descriptor = files.open(path / name)
            try:
                files.drop_cache(descriptor)
            finally:
                files.close(descriptor)
