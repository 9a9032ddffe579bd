"""Best partners equal a dense search over all pairs, whatever the blocks."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isogloss.errors import ShapeError
from isogloss.universality.correlation.best_matches import best_matches, correlation_blocks
from isogloss.universality.correlation.moments import shape_of
from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.testing.dense import dense_codes, dense_correlations

Array = NDArray[Any]


def major(dense: Array) -> sp.csr_array:
    return sp.csr_array(dense.T)


@given(seed=st.integers(0, 10_000), block=st.sampled_from([1, 40, 100_000]))
@settings(max_examples=25, deadline=None)
def test_best_matches_equal_a_dense_search_whatever_the_block(seed: int, block: int) -> None:
    a, b = dense_codes(seed), dense_codes(seed + 1, features=23)
    b[:, 4] = a[:, 7]
    found = best_matches(major(a), sp.csr_array(b), block_entries=block)
    r = dense_correlations(a, b)
    for side, table in ((found.a, r), (found.b, r.T)):
        ordered = np.sort(table, axis=1)[:, ::-1]
        np.testing.assert_allclose(side.r, np.maximum(ordered[:, 0], 0), atol=1e-12)
        np.testing.assert_allclose(side.second, np.maximum(ordered[:, 1], 0), atol=1e-12)
        positive = ordered[:, 0] > 1e-9
        np.testing.assert_array_equal(side.index[positive], table.argmax(1)[positive])
        assert (side.index[~positive] == -1).all()
    assert found.a.index[7] == 4
    np.testing.assert_allclose(found.a.r[7], 1.0, atol=1e-12)


def test_blocks_change_no_bit_of_the_result() -> None:
    a, b = dense_codes(3), dense_codes(4)
    whole = best_matches(major(a), sp.csr_array(b))
    pieces = best_matches(major(a), sp.csr_array(b), block_entries=70)
    for one, other in ((whole.a, pieces.a), (whole.b, pieces.b)):
        np.testing.assert_array_equal(one.index, other.index)
        np.testing.assert_array_equal(one.r, other.r)
        np.testing.assert_array_equal(one.second, other.second)


def test_ties_go_to_the_lowest_feature_and_leave_no_margin() -> None:
    a = dense_codes(5, features=3)
    twice = np.concatenate([a[:, [2, 1, 1]], a[:, [2]]], axis=1)
    found = best_matches(major(a), sp.csr_array(twice), block_entries=4)
    assert found.a.index.tolist()[1:] == [1, 0]
    np.testing.assert_allclose(found.a.margin[1:], 0.0, atol=1e-15)
    back = best_matches(major(twice), sp.csr_array(a), block_entries=1)
    assert back.b.index.tolist()[1:] == [1, 0]
    of_a, of_b = found.mutual()
    assert (1, 1) in zip(of_a.tolist(), of_b.tolist(), strict=True)
    assert (1, 2) not in zip(of_a.tolist(), of_b.tolist(), strict=True)


def test_mutual_pairs_are_best_in_both_directions() -> None:
    a, b = dense_codes(6), dense_codes(7)
    b[:, :5] = a[:, :5] + 0.2 * b[:, :5]
    r = dense_correlations(a, b)
    of_a, of_b = best_matches(major(a), sp.csr_array(b)).mutual(min_r=0.1)
    wanted = {
        (i, j)
        for i, j in enumerate(r.argmax(1).tolist())
        if r[:, j].argmax() == i and r[i, j] >= 0.1
    }
    assert set(zip(of_a.tolist(), of_b.tolist(), strict=True)) == wanted
    assert {(i, i) for i in range(5)} <= wanted


def test_features_that_never_fire_together_have_no_partner() -> None:
    a, b = np.zeros((6, 2)), np.zeros((6, 1))
    a[:2, 0], b[3:, 0] = 1.0, 1.0
    found = best_matches(major(a), sp.csr_array(b))
    assert found.a.index.tolist() == [-1, -1]
    assert found.b.index.tolist() == [-1]
    assert found.a.r.tolist() == [0.0, 0.0]
    assert all(len(side) == 0 for side in found.mutual())


def test_a_constant_feature_correlates_with_nothing() -> None:
    a, b = np.full((50, 1), 0.1), dense_codes(8, rows=50, features=4)
    b[:, 0] = 0.3
    assert best_matches(major(a), sp.csr_array(b)).a.index.tolist() == [-1]
    found = pair_statistics(major(a), major(b), np.array([0, 0]), np.array([0, 1]))
    assert found.r.tolist() == [0.0, 0.0]


def test_codes_over_different_rows_are_refused() -> None:
    a, b = dense_codes(1), dense_codes(2, rows=100)
    with pytest.raises(ShapeError, match="200 and 100 rows"):
        best_matches(major(a), sp.csr_array(b))
    with pytest.raises(ShapeError, match="200 and 100 rows"):
        pair_statistics(major(a), major(b), np.array([0]), np.array([0]))


def test_blocks_follow_the_products_and_not_the_width() -> None:
    """Wide dictionaries that hardly fire are one block; a block of dense ones stays bounded."""
    generator = np.random.default_rng(6)
    wide = sp.csr_array(sp.random_array((40, 50_000), density=0.001, rng=generator))
    assert len(list(correlation_blocks(wide.T.tocsr(), wide))) == 1
    dense = dense_codes(7, features=60)
    limit = 300
    blocks = list(correlation_blocks(major(dense), sp.csr_array(dense), block_entries=limit))
    heights = [shape_of(block)[0] for _, block in blocks]
    assert sum(heights) == 60
    assert len(blocks) > 6
    assert all(
        block.nnz <= limit or height == 1
        for (_, block), height in zip(blocks, heights, strict=True)
    )
    assert [start for start, _ in blocks] == np.cumsum([0, *heights[:-1]]).tolist()
