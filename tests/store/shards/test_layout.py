"""How rows fall into shards, and what a shard's index says."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import InvalidInput
from isogloss.store import SiteSpec
from isogloss.store.disk.checksums import crc32c
from isogloss.store.shards.layout import ShardLayout, array_metadata


@given(st.integers(1, 1 << 20), st.integers(1, 1 << 28))
def test_chunks_have_a_power_of_two_of_rows_and_shards_the_size_wanted(
    width: int, shard_bytes: int
) -> None:
    layout = ShardLayout.for_site(SiteSpec(name="s", width=width), shard_bytes)
    assert layout.chunk_rows & (layout.chunk_rows - 1) == 0
    assert layout.chunk_rows == 1 or layout.shard_rows * layout.row_bytes <= shard_bytes
    assert ShardLayout.from_dict(layout.to_dict()) == layout


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 600), st.integers(0, 10**6))
def test_every_row_has_a_place_of_its_own(
    row_bytes: int, chunk_rows: int, shard_chunks: int, row: int
) -> None:
    layout = ShardLayout(row_bytes=row_bytes, chunk_rows=chunk_rows, shard_chunks=shard_chunks)
    shard, offset = layout.row_offset(row)
    assert layout.data_offset % 4096 == 0
    assert shard * layout.shard_rows + (offset - layout.data_offset) // row_bytes == row
    within = row % layout.shard_rows
    assert offset + row_bytes <= layout.padded_bytes(within + 1)
    assert (layout.padded_bytes(within + 1) - layout.data_offset) % layout.chunk_bytes == 0


def test_the_head_of_a_shard_is_its_index_its_checksum_and_zeros() -> None:
    layout = ShardLayout(row_bytes=6, chunk_rows=4, shard_chunks=3)
    head = layout.head()
    index = np.frombuffer(head[:48], "<u8").reshape(3, 2)
    assert index.tolist() == [[4096, 24], [4120, 24], [4144, 24]]
    assert int.from_bytes(head[48:52], "little") == crc32c(head[:48])
    assert head[52:] == bytes(4096 - 52)


def test_sizes_must_be_positive_and_metadata_names_rows_and_site() -> None:
    with pytest.raises(InvalidInput, match="positive"):
        ShardLayout(row_bytes=0, chunk_rows=1)
    site = SiteSpec(name="../any name", width=3)
    layout = ShardLayout(row_bytes=6, chunk_rows=4, shard_chunks=3)
    document = json.loads(array_metadata(site, layout, 5))
    assert document["shape"] == [5, 3]
    assert document["chunk_grid"]["configuration"]["chunk_shape"] == [12, 3]
    assert document["attributes"]["site"] == "../any name"
