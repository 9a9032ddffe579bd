"""Orders and bounds that the store is measured by, and what it reaches on made rows."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from isogloss.store import SiteSpec, Store
from isogloss.store.reading.shuffle_order import ShuffleOrder
from isogloss.store.shards.compressed import compressed_layout
from isogloss.store.shards.compressor import encode_shard
from isogloss.store.shards.layout import ShardLayout
from isogloss.store.testing import sample_batch, sample_spec
from isogloss.store.testing.measures import buffer_order, design_effect, file_order, plane_bound

DOCUMENTS, LENGTH, WIDTH = 1000, 120, 16
BATCH_ROWS = 2048


@pytest.fixture(scope="module")
def correlated() -> np.ndarray:
    """Rows of documents of which each has a mean of its own."""
    chance = np.random.default_rng(0)
    means = chance.normal(0, 0.4, (DOCUMENTS, 1, WIDTH))
    rows = means + chance.normal(0, 1, (DOCUMENTS, LENGTH, WIDTH))
    return rows.reshape(-1, WIDTH).astype(np.float32)


def test_batches_of_shuffled_rows_vary_nearly_as_independent_ones(correlated: np.ndarray) -> None:
    count = len(correlated)
    chance = np.random.default_rng(1)
    shuffled = [
        np.concatenate(
            list(
                ShuffleOrder(
                    rows=None, count=count, seed=0, epoch=epoch, batch_rows=BATCH_ROWS
                ).step_rows(0)
            )
        )
        for epoch in range(4)
    ]
    random = [chance.permutation(count) for _ in range(4)]
    assert design_effect(correlated, shuffled, BATCH_ROWS) < 1.2
    assert design_effect(correlated, random, BATCH_ROWS) == pytest.approx(1, abs=0.1)
    assert design_effect(correlated, [np.arange(count)], BATCH_ROWS) > 10


def test_other_orders_visit_every_row_once_and_mix_less(correlated: np.ndarray) -> None:
    count = len(correlated)
    chance = np.random.default_rng(2)
    for order in (buffer_order(count, chance, 16_384), file_order(count, chance, 8192)):
        assert np.array_equal(np.sort(order), np.arange(count))
        assert design_effect(correlated, [order], BATCH_ROWS) > 2


def test_the_bound_of_byte_planes_is_that_of_their_entropies() -> None:
    known = np.array([[0x0100, 0x0200], [0x0300, 0x0400]], "<u2").view(ml_dtypes.bfloat16)
    assert plane_bound(known) == pytest.approx(16 / 2)
    noise = np.random.default_rng(0).integers(0, 1 << 32, (4096, 64), np.uint32)
    assert plane_bound(noise.view(np.float32)) == pytest.approx(1, abs=1e-3)


def test_compression_reaches_nearly_the_bound() -> None:
    values = np.random.default_rng(0).normal(0, 1, (4096, 384)).astype(ml_dtypes.bfloat16)
    raw = ShardLayout.for_site(SiteSpec(name="s", width=384))
    layout = compressed_layout(raw)
    encoded = encode_shard(values.view(np.uint8), layout, 2)[layout.data_offset :]
    assert values.nbytes / len(encoded) > 0.98 * plane_bound(values)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_any_rows_in_any_order_are_taken_right(tmp_path: Path, is_compressed: bool) -> None:
    spec = sample_spec(sites=(SiteSpec(name="s", width=24),))
    batch = sample_batch(spec, "p", 1, 3000)
    with Store.open(tmp_path) as store:
        recording = store.create_recording(spec, [], shard_bytes=16 << 10)
        with recording.open_lane() as lane:
            lane.append([batch])
        if is_compressed:
            recording.compress()
        reader = recording.reader()
        chance = np.random.default_rng(0)
        for rows in (
            np.sort(chance.permutation(3000)[:1500]),
            np.flatnonzero(chance.random(3000) < 0.97),
            np.arange(0, 3000, 9),
            np.arange(2999, -1, -1),
            np.repeat(np.arange(40, 80), 2),
            np.empty(0, np.int64),
        ):
            found = reader.take("s", rows.astype(np.int64))
            assert found.tobytes() == batch.sites["s"][rows].tobytes()
