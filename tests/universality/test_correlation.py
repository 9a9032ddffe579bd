"""Sparse correlation equals dense float64 numpy, whatever the blocks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isogloss.errors import EmptyProbe, InvalidInput, ShapeError
from isogloss.universality.correlation import (
    best_matches,
    codes_matrix,
    moments,
    pair_statistics,
)

Array = NDArray[Any]


@dataclass
class Rows:
    indptr: Array
    indices: Array
    values: Array


def random_codes(seed: int, rows: int = 200, features: int = 30, density: float = 0.15) -> Array:
    generator = np.random.default_rng(seed)
    dense = generator.random((rows, features)).astype(np.float32).astype(np.float64)
    return dense * (generator.random((rows, features)) < density)


def dense_r(a: Array, b: Array) -> Array:
    """Pearson correlation of all columns, two-pass, 0 for constant columns."""
    a, b = a - a.mean(0), b - b.mean(0)
    norm = np.outer(np.sqrt((a**2).sum(0)), np.sqrt((b**2).sum(0)))
    return np.divide(a.T @ b, norm, out=np.zeros_like(norm), where=norm > 1e-12)


def major(dense: Array) -> sp.csr_array:
    return sp.csr_array(dense.T)


def test_pair_statistics_of_a_case_worked_by_hand() -> None:
    a = np.array([[1.0], [2.0], [0.0], [0.0]])
    b = np.array([[2.0], [0.0], [1.0], [0.0]])
    found = pair_statistics(major(a), major(b), np.array([0]), np.array([0]))
    # n = 4, Σa = 3, Σb = 3, Σa² = 5, Σb² = 5, Σab = 2: (8 - 9) / (20 - 9)
    np.testing.assert_allclose(found.r, [-1 / 11], rtol=1e-15)
    assert found.rows == 4
    assert found.cofires.tolist() == [1]
    assert found.fires_a.tolist() == [2]
    assert found.fires_b.tolist() == [2]
    np.testing.assert_allclose(found.jaccard, [1 / 3])


@given(seed=st.integers(0, 10_000), block=st.sampled_from([1, 40, 100_000]))
@settings(max_examples=25, deadline=None)
def test_best_matches_equal_a_dense_search_whatever_the_block(seed: int, block: int) -> None:
    a, b = random_codes(seed), random_codes(seed + 1, features=23)
    b[:, 4] = a[:, 7]
    found = best_matches(major(a), sp.csr_array(b), block_entries=block)
    r = dense_r(a, b)
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
    a, b = random_codes(3), random_codes(4)
    whole = best_matches(major(a), sp.csr_array(b))
    pieces = best_matches(major(a), sp.csr_array(b), block_entries=70)
    for one, other in ((whole.a, pieces.a), (whole.b, pieces.b)):
        np.testing.assert_array_equal(one.index, other.index)
        np.testing.assert_array_equal(one.r, other.r)
        np.testing.assert_array_equal(one.second, other.second)


def test_ties_go_to_the_lowest_feature_and_leave_no_margin() -> None:
    a = random_codes(5, features=3)
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
    a, b = random_codes(6), random_codes(7)
    b[:, :5] = a[:, :5] + 0.2 * b[:, :5]
    r = dense_r(a, b)
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
    a, b = np.full((50, 1), 0.1), random_codes(8, rows=50, features=4)
    b[:, 0] = 0.3
    assert best_matches(major(a), sp.csr_array(b)).a.index.tolist() == [-1]
    found = pair_statistics(major(a), major(b), np.array([0, 0]), np.array([0, 1]))
    assert found.r.tolist() == [0.0, 0.0]


def test_pair_statistics_equal_dense_numpy_in_given_order_and_small_blocks() -> None:
    a, b = random_codes(9), random_codes(10)
    generator = np.random.default_rng(0)
    of_a, of_b = generator.integers(0, 30, 70), generator.integers(0, 30, 70)
    found = pair_statistics(major(a), major(b), of_a, of_b, block_pairs=9)
    np.testing.assert_allclose(found.r, dense_r(a, b)[of_a, of_b], atol=1e-13)
    both = ((a > 0).T.astype(int) @ (b > 0).astype(int))[of_a, of_b]
    np.testing.assert_array_equal(found.cofires, both)
    np.testing.assert_allclose(found.products, (a.T @ b)[of_a, of_b], atol=1e-12)


def test_segments_missing_in_one_model_count_in_no_sum() -> None:
    a, b = random_codes(11), random_codes(12)
    shared = np.random.default_rng(1).random(200) < 0.7
    of = np.arange(30)
    masked = pair_statistics(major(a), major(b), of, of, shared=shared)
    apart = pair_statistics(major(a[shared]), major(b[shared]), of, of)
    assert masked.rows == int(shared.sum())
    np.testing.assert_array_equal(masked.r, apart.r)
    np.testing.assert_array_equal(masked.fires_a, apart.fires_a)
    np.testing.assert_allclose(masked.r, dense_r(a[shared], b[shared])[of, of], atol=1e-13)


def test_rare_features_among_many_rows_keep_float64_precision() -> None:
    a, b = np.zeros((200_000, 1)), np.zeros((200_000, 1))
    a[:3, 0], b[1:4, 0] = [1e-3, 5.0, 1e3], [7.0, 1e3, 1e-3]
    found = pair_statistics(major(a), major(b), np.array([0]), np.array([0]))
    np.testing.assert_allclose(found.r, dense_r(a, b)[0], rtol=1e-12)


def test_moments_sum_in_float64() -> None:
    dense = random_codes(13)
    found = moments(major(dense))
    np.testing.assert_allclose(found.total, dense.sum(0), rtol=1e-14)
    np.testing.assert_allclose(found.squares, (dense**2).sum(0), rtol=1e-14)
    np.testing.assert_array_equal(found.fires, (dense > 0).sum(0))
    np.testing.assert_allclose(found.spread, 200 * dense.std(0), rtol=1e-10)


def test_codes_matrix_drops_zeros_and_leaves_its_input_alone() -> None:
    values = np.array([1.0, 0.0, 2.0], np.float32)
    indices = np.array([2, 0, 1], np.int32)
    given = Rows(np.array([0, 2, 3]), indices, values)
    found = codes_matrix(given, 3)
    np.testing.assert_array_equal(found.toarray(), [[0, 0, 1], [0, 2, 0]])
    assert found.nnz == 2
    assert found.dtype == np.float64
    assert values.tolist() == [1.0, 0.0, 2.0]
    assert indices.tolist() == [2, 0, 1]


@pytest.mark.parametrize("value", [-0.5, np.nan, np.inf])
def test_signed_or_non_finite_codes_are_refused(value: float) -> None:
    given = Rows(np.array([0, 1]), np.array([0], np.int32), np.array([value], np.float32))
    with pytest.raises(InvalidInput, match="activations >= 0"):
        codes_matrix(given, 3)


def test_an_index_beyond_the_columns_is_refused() -> None:
    given = Rows(np.array([0, 1]), np.array([3], np.int32), np.ones(1, np.float32))
    with pytest.raises(ShapeError, match=r"\[3, 3\] must lie in \[0, 3\)"):
        codes_matrix(given, 3)


def test_codes_over_different_rows_are_refused() -> None:
    a, b = random_codes(1), random_codes(2, rows=100)
    with pytest.raises(ShapeError, match="200 and 100 rows"):
        best_matches(major(a), sp.csr_array(b))
    with pytest.raises(ShapeError, match="200 and 100 rows"):
        pair_statistics(major(a), major(b), np.array([0]), np.array([0]))


def test_pairs_and_masks_of_wrong_length_are_refused() -> None:
    a = major(random_codes(1))
    with pytest.raises(ShapeError, match="one entry of each a pair"):
        pair_statistics(a, a, np.array([0]), np.array([0, 1]))
    with pytest.raises(ShapeError, match="one entry a row"):
        pair_statistics(a, a, np.array([0]), np.array([0]), shared=np.ones(3, bool))


def test_no_shared_row_is_an_error() -> None:
    a = major(random_codes(1))
    with pytest.raises(EmptyProbe, match="0 shared rows"):
        pair_statistics(a, a, np.array([0]), np.array([0]), shared=np.zeros(200, bool))
