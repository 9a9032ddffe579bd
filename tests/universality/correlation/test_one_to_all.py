"""Products of one feature with all others, and sums without some rows."""

import numpy as np

from isogloss.store import Csr
from isogloss.universality.correlation.moments import Moments
from isogloss.universality.correlation.one_to_all import sum_products, take_lines, without_rows
from isogloss.universality.testing.dense import dense_codes


def csr(dense: np.ndarray) -> Csr:
    rows, columns = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))])
    return Csr(
        indptr=indptr.astype(np.int64),
        indices=columns.astype(np.int32),
        values=dense[rows, columns].astype(np.float32),
    )


def test_lines_come_in_the_order_asked() -> None:
    dense = np.array([[0, 2, 3], [0, 0, 0], [4, 0, 5]])
    found = take_lines(csr(dense), [2, 1, 0, 2])
    assert found.lengths.tolist() == [2, 0, 2, 2]
    assert found.indices.tolist() == [0, 2, 1, 2, 0, 2]
    assert found.values.tolist() == [4, 5, 2, 3, 4, 5]
    assert take_lines(csr(dense), []).indices.size == 0


def test_products_are_those_of_the_dense_codes() -> None:
    a, b = dense_codes(0).astype(np.float32), dense_codes(1).astype(np.float32)
    rows = np.flatnonzero(a[:, 3])
    found = sum_products(rows, a[rows, 3], csr(b), b.shape[1])
    np.testing.assert_allclose(found, a[:, 3].astype(np.float64) @ b.astype(np.float64), rtol=1e-12)
    nothing = sum_products(np.empty(0, np.int64), np.empty(0), csr(b), b.shape[1])
    np.testing.assert_array_equal(nothing, np.zeros(b.shape[1]))


def test_sums_without_rows_are_those_of_the_rest_and_exactly_zero_of_nothing() -> None:
    dense = dense_codes(2).astype(np.float32).astype(np.float64)
    dense[:, 4] = 0
    dense[[1, 5], 4] = 0.1, 0.7
    gone = np.array([5, 1, 9, 30])
    sums = Moments(
        rows=len(dense),
        total=dense.sum(axis=0),
        squares=(dense**2).sum(axis=0),
        fires=(dense > 0).sum(axis=0),
    )
    found, rest = without_rows(sums, gone, csr(dense)), np.delete(dense, gone, axis=0)
    assert found.rows == len(rest)
    np.testing.assert_allclose(found.total, rest.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.squares, (rest**2).sum(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found.fires, (rest > 0).sum(axis=0))
    assert found.total[4] == found.squares[4] == 0
