"""Write the shards of a lane: rows are added behind those there are, in space reserved ahead."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FULL_ERRNOS, FileSystem
from isogloss.store.shards.byte_range import ByteRange
from isogloss.store.shards.layout import ShardLayout, shard_key, site_directory

_MOST_AHEAD_BYTES = 8 << 20
"""A shard is extended to twice its length, but by no more than this, which a crash may waste."""
_EARLY_BYTES = 1 << 20
"""From this size on the kernel is told to begin writing before the sync."""


@dataclass(slots=True, eq=False)
class _Shard:
    """A shard file open for writing."""

    site: int
    number: int
    descriptor: int
    length: int
    reserved: int
    """Bytes whose blocks the disk holds; behind them the file is a hole."""


@dataclass(slots=True, eq=False)
class _Run:
    """Rows written to one shard."""

    shard: _Shard
    offset: int
    length: int
    pieces: list[NDArray[np.uint8]]


class ShardWriter:
    """Writes the rows of all sites of one lane to their shards; its lane decides what is committed.

    Args:
        files: the file system that the lane is on.
        directory: the lane's directory.
        layouts: layouts of each site.
        sync_directory: makes the names in a directory durable, or ends the lane.
    """

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        layouts: Sequence[ShardLayout],
        sync_directory: Callable[[Path], None],
    ) -> None:
        self._files = files
        self._directory = directory
        self._layouts = layouts
        self._sync_directory = sync_directory
        self._open: dict[int, _Shard] = {}
        self._filled: list[_Shard] = []

    def write(
        self, first_row: int, sites: Sequence[Sequence[NDArray[np.uint8]]]
    ) -> list[ByteRange]:
        """Write rows behind ``first_row``. They are durable once :attr:`descriptors` are synced.

        From 1 MiB on the kernel is told to begin writing while the checksums are computed.

        Args:
            first_row: rows of the lane before these.
            sites: for each site the bytes of its rows, in any number of runs.

        Returns:
            What was written, with checksums.

        Raises:
            OSError: writing failed; the shards are closed, and the caller must not commit these
                rows.
        """
        runs: list[_Run] = []
        try:
            for site, parts in enumerate(sites):
                for shard, offset, pieces in split_rows(self._layouts[site], first_row, parts):
                    runs.append(self._write_run(site, shard, offset, pieces))
        except OSError:
            self.close()
            raise
        if sum(run.length for run in runs) >= _EARLY_BYTES:
            for run in runs:
                self._files.start_sync(run.shard.descriptor, run.offset, run.length)
        return [_byte_range(run) for run in runs]

    def _write_run(
        self, site: int, number: int, offset: int, pieces: list[NDArray[np.uint8]]
    ) -> _Run:
        layout = self._layouts[site]
        length = sum(len(piece) for piece in pieces)
        end_row = (offset + length - layout.data_offset) // layout.row_bytes
        shard = self._open_shard(site, number)
        self._extend(shard, layout, end_row)
        self._files.write(shard.descriptor, pieces, offset)
        return _Run(shard, offset, length, pieces)

    def _extend(self, shard: _Shard, layout: ShardLayout, rows: int) -> None:
        """Let a shard hold at least ``rows`` rows, and whole inner chunks.

        Blocks are reserved for twice the rows that there are. The rest of the last chunk is a hole:
        512 sites of 41 rows had held 273 MB, most of it zeros.
        """
        needed = layout.data_offset + rows * layout.row_bytes
        if needed <= shard.reserved and layout.padded_bytes(rows) <= shard.length:
            return
        ahead = min(needed, _MOST_AHEAD_BYTES) // layout.row_bytes
        roomy = min(rows + ahead, layout.shard_rows)
        try:
            self._files.allocate(shard.descriptor, layout.data_offset + roomy * layout.row_bytes)
            shard.reserved = layout.data_offset + roomy * layout.row_bytes
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            roomy = rows
        length = layout.padded_bytes(roomy)
        if length > shard.length:
            self._files.truncate(shard.descriptor, length)
            shard.length = length

    def _open_shard(self, site: int, number: int) -> _Shard:
        """Return a shard that is open for writing, created if need be."""
        current = self._open.get(site)
        if current is not None and current.number == number:
            return current
        following = self._create_shard(site, number)
        if current is not None:
            self._filled.append(current)
        self._open[site] = following
        return following

    def _create_shard(self, site: int, number: int) -> _Shard:
        files = self._files
        path = self._directory / site_directory(site) / shard_key(number)
        with contextlib.suppress(FileExistsError):
            files.make_directory(path.parent)
        try:
            descriptor = files.create(path)
        except FileExistsError:
            descriptor = files.open(path, write=True)
        try:
            head = self._layouts[site].head()
            files.write(descriptor, [head], 0)
            length = max(len(head), files.size(descriptor))
            self._sync_directory(path.parent)
            self._sync_directory(path.parent.parent)
        except BaseException:
            files.close(descriptor)
            raise
        return _Shard(site, number, descriptor, length, 0)

    @property
    def descriptors(self) -> list[int]:
        """The files that were written to and are to be synced."""
        return [shard.descriptor for shard in (*self._filled, *self._open.values())]

    def close_filled(self) -> None:
        """Close the shards that are full, and durable by now."""
        self._close_shards(self._filled)
        self._filled = []

    def trim(self, rows: int) -> None:
        """Give back the space reserved behind the last of ``rows`` rows; errors are ignored."""
        for shard in self._open.values():
            layout = self._layouts[shard.site]
            held = rows - shard.number * layout.shard_rows
            with contextlib.suppress(OSError):
                self._files.truncate(shard.descriptor, layout.padded_bytes(max(0, held)))

    def close(self) -> None:
        """Close all files; the next write opens them again."""
        self._close_shards([*self._filled, *self._open.values()])
        self._filled = []
        self._open = {}

    def _close_shards(self, shards: Sequence[_Shard]) -> None:
        for shard in shards:
            with contextlib.suppress(OSError):
                self._files.close(shard.descriptor)


def _byte_range(run: _Run) -> ByteRange:
    checksum = 0
    for piece in run.pieces:
        checksum = crc32c(piece, checksum)
    return ByteRange(
        site=run.shard.site,
        shard=run.shard.number,
        offset=run.offset,
        length=run.length,
        checksum=checksum,
    )


def split_rows(
    layout: ShardLayout, first_row: int, parts: Sequence[NDArray[np.uint8]]
) -> list[tuple[int, int, list[NDArray[np.uint8]]]]:
    """Cut the bytes of rows that follow ``first_row`` at the bounds of shards.

    Args:
        layout: the site's layout.
        first_row: rows of the lane before these.
        parts: the bytes of the rows, in any number of pieces.

    Returns:
        For each shard: its number, the byte where the rows start in it, the pieces to write.
    """
    runs: list[tuple[int, int, list[NDArray[np.uint8]]]] = []
    row = first_row
    for part in parts:
        start = 0
        while start < len(part):
            shard, offset = layout.row_offset(row)
            room = (layout.shard_rows - row % layout.shard_rows) * layout.row_bytes
            piece = part[start : start + room]
            if not runs or runs[-1][0] != shard:
                runs.append((shard, offset, []))
            runs[-1][2].append(piece)
            start += len(piece)
            row += len(piece) // layout.row_bytes
    return runs
