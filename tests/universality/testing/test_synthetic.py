"""Probes and codes without a model are what their descriptions say."""

from pathlib import Path

import numpy as np

from isogloss.universality.testing import (
    ProbeShape,
    drop_firings,
    random_codes,
    synthetic_probe,
    write_probed,
)

SHAPE = ProbeShape(documents=6, length=5, tokens=4)


def test_the_first_half_of_the_documents_chooses() -> None:
    probe = synthetic_probe(SHAPE)
    assert probe.segments == SHAPE.segments == 30
    assert probe.half.tolist() == [0] * 15 + [1] * 15
    assert probe.segment_document.tolist() == np.repeat(np.arange(6), 5).tolist()
    assert set(probe.stratum_token.tolist()) <= set(range(4))
    assert np.array_equal(synthetic_probe(SHAPE).keys, probe.keys)
    assert not np.array_equal(synthetic_probe(SHAPE, seed=1).keys, probe.keys)


def test_random_codes_fire_above_three_tenths_and_at_most_as_often_as_drawn() -> None:
    codes = random_codes(np.random.default_rng(0), 500, 40, 6)
    assert codes.shape == (500, 40)
    assert codes.data.min() > 0.3
    per_row = np.diff(codes.indptr)
    assert per_row.max() <= 6
    assert per_row.mean() > 4


def test_dropping_takes_about_the_share_of_the_firings_and_leaves_the_codes() -> None:
    generator = np.random.default_rng(1)
    codes = random_codes(generator, 500, 40, 6)
    before = codes.nnz
    dropped = drop_firings(generator, codes, 0.25)
    assert codes.nnz == before
    assert abs(dropped.nnz / before - 0.75) < 0.05
    kept = dropped.toarray() > 0
    np.testing.assert_array_equal(dropped.toarray()[kept], codes.toarray()[kept])


def test_written_codes_are_read_back_without_the_segments_that_are_missing(tmp_path: Path) -> None:
    codes = random_codes(np.random.default_rng(2), 30, 8, 3)
    present = np.arange(30) % 3 > 0
    side = write_probed(tmp_path / "codes", "d", codes, present)
    dense = np.where(present[:, None], codes.toarray(), 0)
    np.testing.assert_array_equal(side.features_matrix(range(8)).toarray(), dense.T)
    np.testing.assert_array_equal(side.moments.fires, (dense > 0).sum(axis=0))
    assert side.moments.rows == 20
