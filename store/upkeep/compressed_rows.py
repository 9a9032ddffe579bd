"""Check the compressed rows of one site: each chunk is read once, each damaged one named once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import IsoglossError
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.shards.byte_range import ByteRange
from isogloss.store.shards.compressed import CompressedShard, compressed_layout
from isogloss.store.shards.layout import ShardLayout, compressed_directory, shard_key
from isogloss.store.upkeep.shard_numbers import missing_shards, shard_numbers


class CompressedRows:
    """Compares the compressed rows of one site of a lane with the checksums of its commits.

    Rows of neighbouring commits share chunks. The chunk read last is kept, so that commits in
    their order read each chunk once. What is wrong with a chunk or with a shard is said once,
    however many commits have rows in it.

    Args:
        files: the file system that the lane is on.
        directory: the lane's directory.
        site: index of the site in the recording.
        name: name of the site.
        raw: how the rows lay in shards before they were compressed.
        rows: rows of the lane.
    """

    def __init__(
        self, files: FileSystem, directory: Path, site: int, name: str, raw: ShardLayout, rows: int
    ) -> None:
        self._files = files
        self._directory = directory / compressed_directory(site)
        self._name = f"site {name!r}: {self._directory.name}"
        self._raw = raw
        self._layout = compressed_layout(raw)
        self._rows = rows
        self._shard: tuple[int, CompressedShard | None] | None = None
        self._chunk: tuple[int, NDArray[np.uint8] | None] | None = None
        self._read: set[int] = set()
        self._missing: set[int] = set()
        self._found: list[str] = []

    def problems(self, written: ByteRange) -> Iterator[str]:
        """Check the rows of one commit.

        Args:
            written: where the rows lay before they were compressed, and their checksum.

        Yields:
            What is wrong, as sentences, without what was said of a chunk before.
        """
        within = (written.offset - self._raw.data_offset) // self._raw.row_bytes
        row = written.shard * self._raw.shard_rows + within
        stop = row + written.length // self._raw.row_bytes
        if row < 0 or stop > self._rows:
            yield f"{self._name}: a commit names rows [{row}, {stop}) of {self._rows}"
            return
        checksum, is_whole = 0, True
        while row < stop:
            number, first = divmod(row, self._layout.chunk_rows)
            take = min(stop - row, self._layout.chunk_rows - first)
            rows = self._decoded(number)
            if rows is None:
                is_whole = False
            else:
                checksum = crc32c(rows[first : first + take], checksum)
            row += take
        yield from self._told()
        if is_whole and checksum != written.checksum:
            yield (
                f"{self._name}: bytes [{written.offset}, {written.offset + written.length}) of "
                f"shard {written.shard} do not match their checksum"
            )

    def rest(self) -> Iterator[str]:
        """Check the chunks that no commit asked for, such as those behind a broken log.

        Yields:
            What is wrong, as sentences.
        """
        wanted = -(-self._rows // self._raw.shard_rows)
        there = shard_numbers(self._files, self._directory)
        for first, last in missing_shards(there, wanted):
            if first not in self._missing:
                shards = f"shard {first} is" if first == last else f"shards {first} to {last} are"
                yield f"{self._name}: {shards} missing"
        for shard in there:
            start = shard * self._layout.shard_chunks
            stop = min(start + self._layout.shard_chunks, -(-self._rows // self._layout.chunk_rows))
            for number in range(start, stop):
                if number not in self._read:
                    self._decoded(number)
                    yield from self._told()
                if self._shard == (shard, None):
                    break

    def _told(self) -> list[str]:
        """Return what was found since the last call."""
        found, self._found = self._found, []
        return found

    def _decoded(self, number: int) -> NDArray[np.uint8] | None:
        """Return a chunk ``[rows, row_bytes]``; None where it is damaged, which is noted once."""
        if self._chunk is None or self._chunk[0] != number:
            self._chunk = number, self._decode(number)
        return self._chunk[1]

    def _decode(self, number: int) -> NDArray[np.uint8] | None:
        is_new = number not in self._read
        self._read.add(number)
        shard, within = divmod(number, self._layout.shard_chunks)
        opened = self._open(shard)
        if opened is None:
            return None
        rows = np.empty((self._layout.chunk_rows, self._layout.row_bytes), np.uint8)
        try:
            opened.read_into(within * self._layout.chunk_rows, rows)
        except (IsoglossError, OSError) as error:
            if is_new:
                self._found.append(f"{self._name}: {error}")
            return None
        return rows

    def _open(self, shard: int) -> CompressedShard | None:
        if self._shard is not None and self._shard[0] == shard:
            return self._shard[1]
        opened: CompressedShard | None = None
        try:
            opened = CompressedShard(self._files, self._directory / shard_key(shard), self._layout)
        except (IsoglossError, OSError) as error:
            if shard not in self._missing:
                self._found.append(f"{self._name}: shard {shard} cannot be read: {error}")
                self._missing.add(shard)
        self._shard = shard, opened
        return opened
