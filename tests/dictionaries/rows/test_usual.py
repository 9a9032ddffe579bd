import numpy as np
import pytest

from isogloss.dictionaries.rows.usual import UsualRows


def test_rows_beyond_ten_times_the_median_distance_are_far():
    rows = np.random.default_rng(0).standard_normal((1000, 6)) + 50
    rows[::100] += 1e3
    usual = UsualRows.of(rows)
    np.testing.assert_allclose(usual.centre, 50, atol=0.2)
    assert usual.limit == pytest.approx(10 * usual.median)
    assert usual.mask(rows).sum() == 990
    assert not usual.mask(rows)[::100].any()


def test_rows_of_which_most_are_equal_are_all_usual():
    rows = np.zeros((10, 3))
    rows[0] = 1e9
    assert UsualRows.of(rows).mask(rows).all()
