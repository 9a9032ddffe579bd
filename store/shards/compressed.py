"""Read the compressed tier: a sealed lane's rows as blosc chunks, plain zarr and lossless."""

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem, OpenFile, read_range
from isogloss.store.shards.layout import (
    ShardLayout,
)

_CHUNK_BYTES = 64 << 10
_MIN_ROWS = 32
_LEAST_BYTES = 20
"""A chunk is at least blosc's header, whose second number is its size, and a checksum."""


def compressed_layout(raw: ShardLayout) -> ShardLayout:
    """Return how rows fall into chunks when compressed: the same shards, smaller chunks."""
    rows = max(_MIN_ROWS, 1 << max(0, (_CHUNK_BYTES // raw.row_bytes).bit_length() - 1))
    rows = min(rows, raw.shard_rows)
    while raw.shard_rows % rows:
        rows //= 2
    return ShardLayout(
        row_bytes=raw.row_bytes, chunk_rows=rows, shard_chunks=raw.shard_rows // rows
    )


class CompressedShard:
    """Reads rows of one compressed shard: one file with consecutive rows of a site.

    The rows lie in chunks, each compressed by itself. A chunk is compared with its checksum
    whenever it is read; CorruptData is raised where it does not match.

    Args:
        files: the file system that the shard is on.
        path: the shard's file.
        layout: how many rows a chunk and a shard hold.
        is_mapped: read the file through a memory map, which spares a copy. A read error of the disk
            then kills the process instead of raising an exception.

    Raises:
        CorruptData: the file is shorter than the index of its chunks, or that index does not match
            its checksum.
    """

    def __init__(
        self, files: FileSystem, path: Path, layout: ShardLayout, *, is_mapped: bool = False
    ) -> None:
        self._files = files
        self._path = path
        self._layout = layout
        self._file = OpenFile(files, path)
        size = files.size(self._file.descriptor)
        length = 16 * layout.shard_chunks + 4
        if size < length:
            raise CorruptData(f"shard {path} has {size} bytes, its index alone {length}")
        head = read_range(files, self._file.descriptor, 0, length)
        if crc32c(head[:-4]).to_bytes(4, "little") != head[-4:].tobytes():
            raise CorruptData(f"the index of shard {path} does not match its checksum")
        self._index: list[list[int]] = head[:-4].view("<u8").reshape(-1, 2).tolist()
        self._size = size
        self._mapped: NDArray[np.uint8] | None = None
        if is_mapped:
            mapped = mmap.mmap(self._file.descriptor, size, prot=mmap.PROT_READ)
            self._mapped = np.frombuffer(mapped, np.uint8)

    def read_into(self, row: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` (``[rows, row_bytes]``) with the rows of the shard from ``row`` on."""
        done = 0
        size = self._layout.chunk_rows
        while done < len(out):
            chunk, within = divmod(row + done, size)
            take = min(len(out) - done, size - within)
            part = out[done : done + take]
            if take == size:
                self._decode(chunk, part)
            else:
                whole = np.empty((size, self._layout.row_bytes), np.uint8)
                self._decode(chunk, whole)
                part[:] = whole[within : within + take]
            done += take

    def _decode(self, chunk: int, whole: NDArray[np.uint8]) -> None:
        """Fill ``whole`` (contiguous) with a chunk."""
        offset, length = self._index[chunk]
        if offset + length > self._size or length < _LEAST_BYTES:
            raise CorruptData(f"chunk {chunk} of shard {self._path} is not within its file")
        if self._mapped is None:
            encoded = read_range(self._files, self._file.descriptor, offset, length)
        else:
            encoded = self._mapped[offset : offset + length]
        content = encoded[:-4]
        if crc32c(content) != int.from_bytes(encoded[-4:].tobytes(), "little"):
            raise CorruptData(f"chunk {chunk} of shard {self._path} does not match its checksum")
        if int.from_bytes(encoded[4:8].tobytes(), "little") != whole.nbytes:
            raise CorruptData(
                f"chunk {chunk} of shard {self._path} has another size than {whole.nbytes} bytes"
            )
        try:
            # here, since numcodecs takes 0.1 s to import, and few processes read compressed rows
            from numcodecs import blosc  # pyright: ignore[reportAttributeAccessIssue] - compiled

            blosc.decompress(content, whole)
        except (ValueError, RuntimeError) as error:
            raise CorruptData(f"chunk {chunk} of shard {self._path}: {error}") from error
