"""Statistics of given pairs equal dense float64 numpy, whatever the blocks."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import EmptyProbe, ShapeError
from isogloss.universality.correlation.pair_statistics import one_with_many, pair_statistics
from isogloss.universality.testing.dense import dense_codes, dense_correlations

Array = NDArray[Any]


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


def test_one_with_many_equals_the_statistics_of_its_pairs_to_the_bit() -> None:
    a, b = major(dense_codes(9)), major(dense_codes(10))
    each = np.arange(30)
    wanted = pair_statistics(a, b, np.full(30, 4), each)
    found = one_with_many(a[[4]], b)
    for name in ("r", "cofires", "fires_a", "fires_b", "jaccard", "products", "cosine"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    assert found.rows == wanted.rows
    with pytest.raises(EmptyProbe, match="0 shared rows"):
        one_with_many(a[[4]][:, :0], b[:, :0])
    with pytest.raises(ShapeError):
        one_with_many(a[[4]][:, :5], b)


def test_pair_statistics_equal_dense_numpy_in_given_order_and_small_blocks() -> None:
    a, b = dense_codes(9), dense_codes(10)
    generator = np.random.default_rng(0)
    of_a, of_b = generator.integers(0, 30, 70), generator.integers(0, 30, 70)
    found = pair_statistics(major(a), major(b), of_a, of_b, block_pairs=9)
    np.testing.assert_allclose(found.r, dense_correlations(a, b)[of_a, of_b], atol=1e-13)
    both = ((a > 0).T.astype(int) @ (b > 0).astype(int))[of_a, of_b]
    np.testing.assert_array_equal(found.cofires, both)
    np.testing.assert_allclose(found.products, (a.T @ b)[of_a, of_b], atol=1e-12)


def test_segments_missing_in_one_model_count_in_no_sum() -> None:
    a, b = dense_codes(11), dense_codes(12)
    shared = np.random.default_rng(1).random(200) < 0.7
    of = np.arange(30)
    masked = pair_statistics(major(a), major(b), of, of, shared=shared)
    apart = pair_statistics(major(a[shared]), major(b[shared]), of, of)
    assert masked.rows == int(shared.sum())
    np.testing.assert_array_equal(masked.r, apart.r)
    np.testing.assert_array_equal(masked.fires_a, apart.fires_a)
    np.testing.assert_allclose(
        masked.r, dense_correlations(a[shared], b[shared])[of, of], atol=1e-13
    )


def test_rare_features_among_many_rows_keep_float64_precision() -> None:
    a, b = np.zeros((200_000, 1)), np.zeros((200_000, 1))
    a[:3, 0], b[1:4, 0] = [1e-3, 5.0, 1e3], [7.0, 1e3, 1e-3]
    found = pair_statistics(major(a), major(b), np.array([0]), np.array([0]))
    np.testing.assert_allclose(found.r, dense_correlations(a, b)[0], rtol=1e-12)


def test_pairs_and_masks_of_wrong_length_are_refused() -> None:
    a = major(dense_codes(1))
    with pytest.raises(ShapeError, match="one entry of each a pair"):
        pair_statistics(a, a, np.array([0]), np.array([0, 1]))
    with pytest.raises(ShapeError, match="200 and 100 rows"):
        pair_statistics(a, major(dense_codes(1, rows=100)), np.array([0]), np.array([0]))
    with pytest.raises(ShapeError, match="one entry a row"):
        pair_statistics(a, a, np.array([0]), np.array([0]), shared=np.ones(3, bool))


def test_no_shared_row_is_an_error() -> None:
    a = major(dense_codes(1))
    with pytest.raises(EmptyProbe, match="0 shared rows"):
        pair_statistics(a, a, np.array([0]), np.array([0]), shared=np.zeros(200, bool))
