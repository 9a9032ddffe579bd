"""The compressed tier: a sealed lane's rows as blosc chunks, still plain zarr, still lossless.

zstd behind a byte shuffle, one block a chunk, the byte planes compressed apart; each chunk carries
its CRC-32C.
"""

import json
import mmap
from pathlib import Path

import numpy as np
from numcodecs import blosc  # pyright: ignore[reportAttributeAccessIssue] - a compiled module
from numpy.typing import NDArray

from isogloss.errors import CorruptData
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem, OpenFile, read_range, remove_tree, write_new
from isogloss.store.formats.blosc_frames import FrameCompressor
from isogloss.store.lanes.shard_layout import (
    ShardLayout,
    array_metadata,
    compressed_directory,
    shard_key,
)
from isogloss.store.schema.recording_spec import SiteSpec

_CHUNK_BYTES = 64 << 10
_BLOCK_BYTES = 1 << 20
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


def compressed_metadata(site: SiteSpec, layout: ShardLayout, rows: int) -> bytes:
    """Return the ``zarr.json`` of a site's compressed rows."""
    document = json.loads(array_metadata(site, layout, rows))
    configuration = {
        "cname": "zstd",
        "clevel": 1,
        "shuffle": "shuffle",
        "typesize": site.numpy_dtype.itemsize,
        "blocksize": _BLOCK_BYTES,
    }
    inner = document["codecs"][0]["configuration"]["codecs"]
    inner += [{"name": "blosc", "configuration": configuration}, {"name": "crc32c"}]
    return json.dumps(document, indent=1).encode()


def encode_shard(content: NDArray[np.uint8], layout: ShardLayout, item_bytes: int) -> bytes:
    """Return the bytes of a compressed shard.

    Args:
        content: its rows, ``[rows, row_bytes]``; the last chunk is completed with zeros.
        layout: of the compressed shard.
        item_bytes: bytes of one number, whose bytes are shuffled apart.
    """
    compressor = FrameCompressor(item_bytes)
    index = np.full((layout.shard_chunks, 2), np.iinfo(np.uint64).max, "<u8")
    pieces: list[bytes] = []
    place = layout.data_offset
    for chunk in range(-(-len(content) // layout.chunk_rows)):
        rows = content[chunk * layout.chunk_rows : (chunk + 1) * layout.chunk_rows]
        if len(rows) < layout.chunk_rows:
            missing = layout.chunk_rows - len(rows)
            rows = np.concatenate([rows, np.zeros((missing, layout.row_bytes), np.uint8)])
        encoded = compressor.encode(rows.reshape(-1))
        pieces += [encoded, crc32c(encoded).to_bytes(4, "little")]
        index[chunk] = place, len(encoded) + 4
        place += len(encoded) + 4
    head = index.tobytes()
    head += crc32c(head).to_bytes(4, "little")
    return head + bytes(layout.data_offset - len(head)) + b"".join(pieces)


class CompressedShard:
    """Reads rows of one compressed shard; every chunk read is checked.

    Args:
        files: where it lies.
        path: of its file.
        layout: of the compressed shard.
        is_mapped: read the file through a memory map, which spares a copy; an input or output
            error of the disk then ends the process.
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
        """Fill ``out`` (``[rows, row_bytes]``) with the rows from ``row`` of the shard on."""
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
            blosc.decompress(content, whole)
        except (ValueError, RuntimeError) as error:
            raise CorruptData(f"chunk {chunk} of shard {self._path}: {error}") from error


class SiteCompressor:
    """Writes the compressed rows of one site of a sealed lane, shard by shard."""

    def __init__(
        self, files: FileSystem, lane: Path, index: int, site: SiteSpec, raw: ShardLayout
    ) -> None:
        self._files = files
        self._target = lane / compressed_directory(index)
        self._partial = lane / f".{compressed_directory(index)}.partial"
        self._site = site
        self._layout = compressed_layout(raw)
        remove_tree(files, self._partial)
        files.make_directory(self._partial)
        files.make_directory(self._partial / "c")

    def write(self, shard: int, content: NDArray[np.uint8]) -> None:
        """Write one shard, make it durable, and read it back to prove that nothing is lost.

        Raises:
            CorruptData: what the disk holds is not what was given.
        """
        item_bytes = self._site.numpy_dtype.itemsize
        path = self._partial / shard_key(shard)
        self._files.make_directory(path.parent)
        write_new(self._files, path, [encode_shard(content, self._layout, item_bytes)])
        self._files.sync_directory(path.parent)
        descriptor = self._files.open(path)
        self._files.drop_cache(descriptor)
        self._files.close(descriptor)
        back = np.empty_like(content)
        CompressedShard(self._files, path, self._layout).read_into(0, back)
        if not np.array_equal(back, content):
            raise CorruptData(f"shard {shard} of site {self._site.name!r} came back changed")

    def finish(self, rows: int) -> None:
        """Give the compressed rows their name; from then on they are what is read."""
        metadata = compressed_metadata(self._site, self._layout, rows)
        write_new(self._files, self._partial / "zarr.json", [metadata])
        self._files.sync_directory(self._partial / "c")
        self._files.sync_directory(self._partial)
        self._files.replace(self._partial, self._target)
        self._files.sync_directory(self._target.parent)
