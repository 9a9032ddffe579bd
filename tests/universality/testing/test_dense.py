"""The dense reference is the Pearson correlation of numpy, and 0 where that is undefined."""

import numpy as np

from isogloss.universality.testing.dense import dense_codes, dense_correlations


def test_codes_are_float32_values_that_fire_as_often_as_asked() -> None:
    codes = dense_codes(0, rows=2000, features=10, density=0.2)
    np.testing.assert_array_equal(codes, codes.astype(np.float32))
    assert abs((codes > 0).mean() - 0.2) < 0.02
    np.testing.assert_array_equal(codes, dense_codes(0, rows=2000, features=10, density=0.2))


def test_correlations_are_those_of_numpy() -> None:
    a, b = dense_codes(1, features=4), dense_codes(2, features=3)
    np.testing.assert_allclose(dense_correlations(a, b), np.corrcoef(a.T, b.T)[:4, 4:], atol=1e-12)


def test_a_constant_column_correlates_with_nothing() -> None:
    a = dense_codes(3, features=2)
    a[:, 1] = 0.7
    assert dense_correlations(a, a)[:, 1].tolist() == [0.0, 0.0]
