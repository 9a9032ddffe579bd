"""The spread of norms agrees with numpy's, however the rows are cut into blocks and lanes."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.store import NormSpread, SiteStatistics
from isogloss.store.lanes.norm_spread import PART_ROWS, POSITIONS, QUANTILE_ERROR, SpreadSums
from isogloss.store.lanes.statistics import measure

WIDTH = 6


def rows_of(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of documents of 20 tokens whose first is huge, as those of a model without BOS are."""
    chance = np.random.default_rng(seed)
    values = chance.normal(0.3, 1, (count, WIDTH)) * chance.choice([1.0, 3.0], (count, 1))
    positions = np.arange(count) % 20
    values[positions == 0] = 200 + values[positions == 0]
    return values.astype(np.float32), positions.astype(np.uint32)


def spread_of(values: np.ndarray, positions: np.ndarray, cuts: list[int]) -> SiteStatistics:
    """Measure rows in lanes, each in one block."""
    bounds = [0, *cuts, len(values)]
    total = SiteStatistics.empty(values.shape[1])
    for start, stop in itertools.pairwise(bounds):
        part = measure([values[start:stop]], values.shape[1], [positions[start:stop]])
        total = total.merge(part)
    return total


def spread(statistics: SiteStatistics) -> NormSpread:
    assert statistics.norms is not None
    return statistics.norms


@pytest.mark.parametrize("cuts", [[], [1], [300, 4100, 9000]])
def test_quantiles_are_within_the_stated_error(cuts: list[int]) -> None:
    values, positions = rows_of(0, 10_000)
    found = spread(spread_of(values, positions, cuts))
    norms = np.linalg.norm(values.astype(np.float64), axis=1)
    for position, chosen in [
        (None, np.ones(len(values), np.bool_)),
        (0, positions == 0),
        (3, positions == 3),
        (8, positions >= 8),
    ]:
        for share in (0.0, 0.01, 0.5, 0.99, 1.0):
            wanted = np.quantile(norms[chosen], share, method="inverted_cdf")
            # norms are measured in float32: 1e-6 beyond the half bin
            assert found.quantile(share, position) == pytest.approx(
                wanted, rel=QUANTILE_ERROR + 1e-6
            )
        rms = np.sqrt(np.mean(norms[chosen] ** 2))
        assert found.rms(position) == pytest.approx(rms, rel=1e-5)


@pytest.mark.parametrize("cuts", [[], [1], [300, 4100, 9000]])
def test_what_classes_and_positions_hold_is_what_their_rows_hold(cuts: list[int]) -> None:
    values, positions = rows_of(1, 10_000)
    statistics = spread_of(values, positions, cuts)
    found = spread(statistics)
    exact = values.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1)
    away = np.square(exact - exact.mean(0)).sum(1)
    classes = np.floor(np.log2(norms) / 2).astype(int)
    assert found.classes.tolist() == np.unique(classes).tolist()
    for at, number in enumerate(found.classes.tolist()):
        chosen = classes == number
        assert found.class_counts[at] == chosen.sum()
        # float32 within 64 rows
        assert found.class_scatter(statistics.mean)[at] == pytest.approx(
            away[chosen].sum(), rel=1e-4
        )
    group = np.minimum(positions, POSITIONS - 1)
    np.testing.assert_array_equal(found.position_counts, np.bincount(group))
    squares = np.bincount(group, norms**2)
    np.testing.assert_allclose(found.squares.sum(1), squares, rtol=1e-5)
    assert found.class_scatter(statistics.mean).sum() == pytest.approx(
        statistics.m2.sum(), rel=1e-4
    )
    assert found.position_scatter(statistics.mean)[0] == pytest.approx(
        away[positions == 0].sum(), rel=0.01
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    cuts=st.lists(st.integers(1, 999), max_size=4, unique=True).map(sorted),
    order=st.randoms(use_true_random=False),
)
def test_lanes_merge_in_any_order(seed: int, cuts: list[int], order: random.Random) -> None:
    values, positions = rows_of(seed, 1000)
    values[7], values[500, 2] = 1e25, np.inf
    bounds = [0, *cuts, len(values)]
    lanes = [
        measure([values[start:stop]], WIDTH, [positions[start:stop]])
        for start, stop in itertools.pairwise(bounds)
    ]
    merged: list[SiteStatistics] = []
    for _ in range(2):
        order.shuffle(lanes)
        total = SiteStatistics.empty(WIDTH)
        for lane in lanes:
            total = total.merge(lane)
        merged.append(total)
    one, other = merged
    a, b = spread(one), spread(other)
    assert a.counts.sum() == 999
    np.testing.assert_array_equal(a.bins, b.bins)
    np.testing.assert_array_equal(a.counts, b.counts)
    for name in ("squares", "class_means", "class_m2"):
        x, y = getattr(a, name), getattr(b, name)
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12 * np.abs(x).max())


def test_rows_of_zeros_have_norm_zero_and_no_rows_no_norm() -> None:
    found = spread(measure([np.zeros((5, 3), np.float32)], 3))
    assert found.quantile(0.5) == found.rms() == 0.0
    nothing = NormSpread.empty(3)
    assert (nothing.quantile(0.5), nothing.rms(2), len(nothing.classes)) == (0.0, 0.0, 0)


def test_what_was_measured_before_stays_unknown() -> None:
    values, positions = rows_of(0, 100)
    new = spread_of(values, positions, [])
    old = SiteStatistics(
        count=1, nonfinite=0, mean=new.mean, m2=new.m2, norm_mean=1.0, norm_max=1.0
    )
    assert new.merge(old).norms is None
    assert old.merge(new).norms is None
    assert (old.huge, old.peak_to_rms) == (None, None)
    assert new.peak_to_rms == pytest.approx(new.norm_max / spread(new).rms())


@pytest.mark.parametrize("rows", [1, 63, 64, 200, 256])
def test_parts_summed_at_once_have_the_bits_of_parts_summed_one_by_one(rows: int) -> None:
    values = np.random.default_rng(rows).normal(3, 1, (rows, 48)).astype(np.float32)
    spread = SpreadSums(48)
    powers = spread.add(
        values.copy(), np.einsum("ij,ij->i", values, values), np.zeros(rows, np.intp)
    )
    sums, squares = np.zeros(48), np.zeros(48)
    for start in range(0, rows, PART_ROWS):
        part = values[start : start + PART_ROWS]
        sums += part.sum(axis=0)
        squares += np.einsum("ij,ij->j", part, part)
    assert powers.tobytes() == squares.tobytes()
    assert spread.sums.tobytes() == sums.tobytes()
