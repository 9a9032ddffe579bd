"""Move the rows of a fenced lane that ended from the files of its commits to zarr shards.

Afterwards the lane has shards, a log and a seal like any other. Every file appears whole and holds
the same bytes whoever writes it, so after a crash all is simply written again. When two processes
move one lane, one of them creates the seal; the other finds it, or finds the commits gone, and
changes nothing, also where the lane was retired meanwhile. The fence is never removed: without it
a writer that was stopped could create the commit of that number, and acknowledge lost rows.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData
from isogloss.store.disk import signed_json
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import Buffer, FileSystem, make_directories
from isogloss.store.fenced.records import KIND_FENCE, CommitNote, LaneRecords, record_kind
from isogloss.store.fenced.scan import FencedScan
from isogloss.store.lanes.lane_directory import LOG_NAME, SEAL_NAME
from isogloss.store.lanes.log_frames import KIND_COMMIT, KIND_LANE, encode_frame, lane_payload
from isogloss.store.lanes.seal import Seal, read_seal
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.byte_range import ByteRange
from isogloss.store.shards.layout import ShardLayout, array_metadata, shard_key, site_directory

_CONFIRMED = b'{"settled":true}'


def move_to_shards(records: LaneRecords, scan: FencedScan, spec: RecordingSpec) -> Seal:
    """Write a fenced lane that ended as shards, log and seal, then remove its commits' files.

    Args:
        records: the lane's records.
        scan: all of the lane, its fence included.
        spec: the recording's specification.

    Returns:
        The seal.

    Raises:
        CorruptData: rows do not match the checksums of their commits; nothing was removed.
    """
    files, lane = records.files, records.directory / "lanes" / records.name
    if scan.fence is None:
        raise CorruptData(
            f"lane {records.name!r} has no fence: it must end before its rows are moved"
        )
    seal = read_seal(files, lane)
    if seal is None:
        make_directories(files, lane)
        ranges = [_write_site(records, scan, spec, site) for site in range(len(spec.sites))]
        log = _Log(records, scan, ranges)
        files.write_whole(lane / LOG_NAME, log.pieces())
        seal = _create_seal(files, lane, replace(scan.fence, log_bytes=log.length))
    if not files.exists(records.moved):
        with contextlib.suppress(FileExistsError):
            files.create_record(records.moved, _CONFIRMED)
    sweep_records(records, scan.next)
    return seal


def _create_seal(files: FileSystem, lane: Path, seal: Seal) -> Seal:
    """Seal a lane; return the seal that stands: ours, or that of another process."""
    try:
        files.create_record(lane / SEAL_NAME, signed_json.encode(seal.to_dict()))
    except FileExistsError:
        return read_seal(files, lane) or seal
    return seal


def sweep_records(records: LaneRecords, fence: int | None = None) -> int:
    """Remove the files of a moved lane's commits, all but its fence.

    Args:
        records: the lane's records.
        fence: sequence number of the fence; None to look at the records that are left.

    Returns:
        How many names were removed.
    """
    files = records.files
    removed = len(files.names(records.groups))
    files.remove_tree(records.groups)
    for name in files.names(records.commits):
        if name.isdigit() and _is_kept(records, int(name), fence):
            continue
        with contextlib.suppress(FileNotFoundError):
            files.remove(records.commits / name)
        removed += 1
    return removed


def _is_kept(records: LaneRecords, sequence: int, fence: int | None) -> bool:
    if fence is not None:
        return sequence >= fence
    return record_kind(records, sequence) == KIND_FENCE


def _write_site(
    records: LaneRecords, scan: FencedScan, spec: RecordingSpec, site: int
) -> list[list[ByteRange]]:
    """Write the shards and metadata of one site; return for each commit where its rows are now."""
    files, layout = records.files, scan.header.layouts[site]
    directory = records.directory / "lanes" / records.name / site_directory(site)
    shards = _Shards(files, directory, layout, min(scan.rows, layout.shard_rows))
    ranges: list[list[ByteRange]] = []
    for note in scan.commits:
        rows = _read_group(records, note, site)
        ranges.append([replace(found, site=site) for found in shards.add(note.first_row, rows)])
    shards.finish()
    metadata = array_metadata(spec.sites[site], layout, scan.rows)
    files.write_whole(directory / "zarr.json", [metadata])
    return ranges


def _read_group(records: LaneRecords, note: CommitNote, site: int) -> NDArray[np.uint8]:
    """Return the rows that a commit wrote for a site, checked."""
    written = note.ranges[site]
    content = np.frombuffer(records.files.read_whole(records.group(site, written.shard)), np.uint8)
    if len(content) != written.length or crc32c(content) != written.checksum:
        raise CorruptData(
            f"rows {site}.{written.shard} of lane {records.name!r} do not match their checksum: "
            "run verify"
        )
    return content


class _Shards:
    """Gathers rows into whole shards and writes each of them once."""

    def __init__(self, files: FileSystem, directory: Path, layout: ShardLayout, rows: int) -> None:
        self._files = files
        self._directory = directory
        self._layout = layout
        self._content = np.zeros(layout.padded_bytes(rows), np.uint8)
        self._content[: layout.data_offset] = np.frombuffer(layout.head(), np.uint8)
        self._shard = 0
        self._rows = 0
        make_directories(files, directory / "c")

    def add(self, first_row: int, rows: NDArray[np.uint8]) -> list[ByteRange]:
        """Add the bytes of rows that follow those before; return where they are."""
        layout = self._layout
        ranges: list[ByteRange] = []
        done = 0
        while done < len(rows):
            shard, offset = layout.row_offset(first_row + done // layout.row_bytes)
            if shard != self._shard:
                self._write()
                self._shard = shard
            room = (layout.shard_rows - self._rows) * layout.row_bytes
            piece = rows[done : done + room]
            self._content[offset : offset + len(piece)] = piece
            self._rows += len(piece) // layout.row_bytes
            checksum = crc32c(piece)
            ranges.append(
                ByteRange(site=0, shard=shard, offset=offset, length=len(piece), checksum=checksum)
            )
            done += len(piece)
        return ranges

    def finish(self) -> None:
        """Write the last shard."""
        if self._rows:
            self._write()

    def _write(self) -> None:
        path = self._directory / shard_key(self._shard)
        make_directories(self._files, path.parent)
        length = self._layout.padded_bytes(self._rows)
        end = self._layout.data_offset + self._rows * self._layout.row_bytes
        self._content[end:length] = 0
        self._files.write_whole(path, [self._content[:length]])
        self._rows = 0


class _Log:
    """The log of a moved lane: its commits, with the places of their rows in the shards."""

    def __init__(
        self, records: LaneRecords, scan: FencedScan, ranges: list[list[list[ByteRange]]]
    ) -> None:
        self._records = records
        self._scan = scan
        self._ranges = ranges
        self.length = 0
        """Bytes so far."""

    def pieces(self) -> Iterator[Buffer]:
        """Yield the bytes of the log."""
        header = self._scan.header
        yield from self._frame(KIND_LANE, 0, lane_payload(header.to_dict()))
        commits = self._records.read(self._scan.rows)
        rows = 0
        for number, commit in enumerate(commits, 1):
            rows += commit.rows
            ranges = [found for site in self._ranges for found in site[number - 1]]
            moved = replace(commit, ranges=tuple(ranges))
            yield from self._frame(KIND_COMMIT, number, moved.to_buffers())
        if rows != self._scan.rows:  # the log appears whole, so none of it was written yet
            raise CorruptData(
                f"the commits of lane {self._records.name!r} hold {rows} rows, wanted "
                f"{self._scan.rows}: another owner moved it meanwhile; open the store again"
            )

    def _frame(
        self, kind: int, number: int, payload: list[bytes | NDArray[np.uint8]]
    ) -> Iterator[Buffer]:
        for piece in encode_frame(kind, self._scan.header.epoch, number, payload):
            self.length += len(piece)
            yield piece
