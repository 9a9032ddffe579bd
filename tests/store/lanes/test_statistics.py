"""Moments of rows agree with numpy's, whatever the rows are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import ShapeError
from isogloss.store import (
    SiteSpec,
)
from isogloss.store.lanes.statistics import (
    _BLOCK_NUMBERS,
    BLOCK_ROWS,
    SiteStatistics,
    _block_rows,
    measure,
)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_rows_that_are_not_finite_are_counted_and_left_out(dtype: str) -> None:
    site = SiteSpec.from_dict({"name": "s", "width": 7, "dtype": dtype})
    values = np.random.default_rng(0).normal(3, 2, (1500, 7)).astype(site.numpy_dtype)
    values[3, 1], values[1400, 6] = np.nan, np.inf
    found = measure([values[:700], values[700:]], 7)
    good = np.delete(values, [3, 1400], axis=0).astype(np.float64)
    assert (found.count, found.nonfinite) == (1498, 2)
    np.testing.assert_allclose(found.mean, good.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.m2, good.var(0) * len(good), rtol=2e-6)
    assert measure([values[3:4]], 7).count == 0


def test_statistics_of_a_far_off_mean_lose_nothing() -> None:
    values = (1e4 + np.random.default_rng(0).normal(0, 1, (4000, 3))).astype(np.float32)
    found = measure([values], 3)
    np.testing.assert_allclose(found.m2 / found.count, values.astype(np.float64).var(0), rtol=2e-6)
    with pytest.raises(ShapeError, match="widths"):
        found.merge(SiteStatistics.empty(4))


def test_statistics_follow_a_mean_that_wanders_and_do_not_depend_on_ordinary_neighbours() -> None:
    chance = np.random.default_rng(0)
    drift = np.linspace(0, 300, 20_000)[:, None]
    values = (drift + chance.normal(0, 1, (20_000, 5))).astype(np.float32)
    values[7], values[5000, 2], values[9999, 0] = 1e25, np.inf, np.nan
    good = values[np.isfinite(values).all(1)].astype(np.float64)
    for blocks in ([values], [values[:1], values[1:4097], values[4097:4098], values[4098:]]):
        found = measure(blocks, 5)
        assert (found.count, found.nonfinite) == (19_998, 2)
        np.testing.assert_allclose(found.mean, good.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.m2, good.var(0) * len(good), rtol=2e-6)
    without = np.delete(good, 7, axis=0)
    found = measure([without.astype(np.float32)], 5)
    np.testing.assert_allclose(found.m2, without.var(0) * len(without), rtol=2e-6)
    norms = np.linalg.norm(without, axis=1)
    np.testing.assert_allclose([found.norm_mean, found.norm_max], [norms.mean(), norms.max()])


def test_statistics_of_huge_numbers_do_not_overflow() -> None:
    values = np.random.default_rng(0).normal(0, 1e30, (100, 3)).astype(np.float32)
    found = measure([values], 3)
    assert found.count == 100
    np.testing.assert_allclose(found.m2 / 100, values.astype(np.float64).var(0), rtol=1e-9)


@given(st.integers(1, 1 << 20))
def test_rows_are_measured_in_whole_parts_that_fit_a_cache_where_they_can(width: int) -> None:
    rows = _block_rows(width)
    assert rows & (rows - 1) == 0
    assert BLOCK_ROWS <= rows <= 4 * BLOCK_ROWS
    assert rows == BLOCK_ROWS or rows * width <= _BLOCK_NUMBERS
    assert rows == 4 * BLOCK_ROWS or 2 * rows * width > _BLOCK_NUMBERS
