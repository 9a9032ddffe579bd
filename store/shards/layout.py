"""Shards: the files that hold a site's rows, valid zarr v3 from their first row on.

A shard starts with an index (offset and length of every inner chunk, and a CRC-32C), then zeros up
to a multiple of 4,096, then rows one after the other, uncompressed. The index is known when the
file is created and never changes. The file always ends with a whole inner chunk.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from isogloss.errors import InvalidInput
from isogloss.store.disk.checksums import crc32c
from isogloss.store.schema.json_fields import SCHEMA_VERSION, get_count
from isogloss.store.schema.recording_spec import SiteSpec

ALIGNMENT = 4096
DEFAULT_SHARD_BYTES = 64 << 20
_CHUNKS_PER_SHARD = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardLayout:
    """How many rows of one site a shard and an inner chunk hold, and where in a shard they are.

    A shard is a file with consecutive rows of a site; inner chunks are its parts, as zarr reads
    them.
    """

    row_bytes: int
    """Bytes of one row."""

    chunk_rows: int
    """Rows of an inner chunk."""

    shard_chunks: int = _CHUNKS_PER_SHARD
    """Inner chunks of a shard."""

    def __post_init__(self) -> None:
        if self.row_bytes < 1 or self.chunk_rows < 1 or self.shard_chunks < 1:
            raise InvalidInput(
                f"shard layout ({self.row_bytes} bytes a row, {self.chunk_rows} rows a chunk, "
                f"{self.shard_chunks} chunks a shard) must be positive"
            )

    @classmethod
    def for_site(cls, site: SiteSpec, shard_bytes: int = DEFAULT_SHARD_BYTES) -> "ShardLayout":
        """Return the layout whose shards have at most about ``shard_bytes``.

        Inner chunks have a power of two of rows, so that blocks of 32 never straddle shards.
        """
        rows = max(1, shard_bytes // _CHUNKS_PER_SHARD // site.row_bytes)
        return cls(row_bytes=site.row_bytes, chunk_rows=1 << (rows.bit_length() - 1))

    @property
    def shard_rows(self) -> int:
        """Rows of a full shard."""
        return self.chunk_rows * self.shard_chunks

    @property
    def chunk_bytes(self) -> int:
        """Bytes of an inner chunk."""
        return self.chunk_rows * self.row_bytes

    @property
    def data_offset(self) -> int:
        """Position in a shard where the rows start: after the index, a multiple of 4,096."""
        index_bytes = 16 * self.shard_chunks + 4
        return index_bytes + -index_bytes % ALIGNMENT

    def padded_bytes(self, rows: int) -> int:
        """Length of a shard's file that holds ``rows`` rows: whole inner chunks."""
        return self.data_offset + -(-rows // self.chunk_rows) * self.chunk_bytes

    def row_offset(self, row: int) -> tuple[int, int]:
        """Return the shard and the byte within it where a row of the lane starts."""
        shard, within = divmod(row, self.shard_rows)
        return shard, self.data_offset + within * self.row_bytes

    def head(self) -> bytes:
        """Return the bytes of a shard before its rows."""
        return _head(self.data_offset, self.chunk_bytes, self.shard_chunks)

    def to_dict(self) -> dict[str, object]:
        """Return the layout as a JSON object."""
        return {
            "row_bytes": self.row_bytes,
            "chunk_rows": self.chunk_rows,
            "shard_chunks": self.shard_chunks,
            "data_offset": self.data_offset,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> "ShardLayout":
        """Read a layout from a JSON object."""
        return cls(
            row_bytes=get_count(document, "row_bytes"),
            chunk_rows=get_count(document, "chunk_rows"),
            shard_chunks=get_count(document, "shard_chunks"),
        )


@lru_cache(maxsize=64)
def _head(data_offset: int, chunk_bytes: int, shard_chunks: int) -> bytes:
    index = np.empty((shard_chunks, 2), "<u8")
    index[:, 0] = data_offset + np.arange(shard_chunks, dtype=np.uint64) * np.uint64(chunk_bytes)
    index[:, 1] = chunk_bytes
    encoded = index.tobytes()
    encoded += crc32c(encoded).to_bytes(4, "little")
    return encoded + bytes(data_offset - len(encoded))


def site_directory(index: int) -> str:
    """Name of the directory of a site in a lane; a site's own name never is part of a path."""
    return f"site-{index}"


def compressed_directory(index: int) -> str:
    """Name of the directory of a site's compressed rows in a lane."""
    return f"compressed-{index}"


def shard_key(shard: int) -> str:
    """Path of a shard below its site's directory, in zarr's default chunk key encoding."""
    return f"c/{shard}/0"


def array_metadata(site: SiteSpec, layout: ShardLayout, rows: int) -> bytes:
    """Return the ``zarr.json`` of a site of which ``rows`` rows are committed."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {
        "chunk_shape": [layout.chunk_rows, site.width],
        "codecs": [little],
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "start",
    }
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [rows, site.width],
        "data_type": site.dtype,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [layout.shard_rows, site.width]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {"schema_version": SCHEMA_VERSION, "site": site.name},
        "dimension_names": ["row", "width"],
    }
    return json.dumps(document, indent=1).encode()
