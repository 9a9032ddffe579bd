"""Write the compressed tier: a sealed lane's rows as blosc chunks, plain zarr and lossless.

Each chunk is shuffled by bytes, its byte planes are compressed one by one with zstd as one blosc
block, and its CRC-32C follows.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem, write_new
from isogloss.store.formats.blosc_frames import FrameCompressor
from isogloss.store.schema.recording_spec import SiteSpec
from isogloss.store.shards.compressed import CompressedShard, compressed_layout
from isogloss.store.shards.layout import (
    ShardLayout,
    array_metadata,
    compressed_directory,
    shard_key,
)

_BLOCK_BYTES = 1 << 20


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
        layout: layout of the compressed shard.
        item_bytes: bytes of one number, whose bytes are shuffled apart.

    Returns:
        The shard's index and its chunks.
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
        files.remove_tree(self._partial)
        files.make_directory(self._partial)
        files.make_directory(self._partial / "c")

    def write(self, shard: int, content: NDArray[np.uint8]) -> None:
        """Write one shard, make it durable, read it back past the page cache, and compare.

        Args:
            shard: its number.
            content: its rows, ``[rows, row_bytes]``.

        Raises:
            CorruptData: the disk gave back other bytes than were written.
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
        """Give the compressed rows their name; from then on readers read them."""
        metadata = compressed_metadata(self._site, self._layout, rows)
        write_new(self._files, self._partial / "zarr.json", [metadata])
        self._files.sync_directory(self._partial / "c")
        self._files.sync_directory(self._partial)
        self._files.replace(self._partial, self._target)
        self._files.sync_directory(self._target.parent)
