"""Codes become matrices, and every sum over them is exact in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.universality.correlation.moments import codes_matrix, moments
from isogloss.universality.testing.dense import dense_codes

Array = NDArray[Any]


@dataclass
class Rows:
    indptr: Array
    indices: Array
    values: Array


def major(dense: Array) -> sp.csr_array:
    return sp.csr_array(dense.T)


def test_moments_sum_in_float64() -> None:
    dense = dense_codes(13)
    found = moments(major(dense))
    np.testing.assert_allclose(found.total, dense.sum(0), rtol=1e-14)
    np.testing.assert_allclose(found.squares, (dense**2).sum(0), rtol=1e-14)
    np.testing.assert_array_equal(found.fires, (dense > 0).sum(0))
    np.testing.assert_allclose(found.spread, 200 * dense.std(0), rtol=1e-10)


@pytest.mark.parametrize("width", ["i4", "i8"])
def test_codes_matrix_drops_zeros_and_leaves_its_input_alone(width: str) -> None:
    values = np.array([1.0, 0.0, 2.0])
    indices = np.array([2, 0, 1], width)
    given = Rows(np.array([0, 2, 3], width), indices, values)
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
    given = Rows(np.array([0, 1]), np.array([-1], np.int32), np.ones(1, np.float32))
    with pytest.raises(ShapeError, match=r"\[-1, -1\] must lie in \[0, 3\)"):
        codes_matrix(given, 3)
