"""Intervals leave out one source after the other, and hold the truth as often as they say."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import t

from isogloss.errors import InvalidInput
from isogloss.universality.nulls.intervals import (
    LEAST_SOURCES,
    Intervals,
    correlation_intervals,
    effective_firings,
    jackknife,
)
from isogloss.universality.nulls.strata import Strata

Array = NDArray[Any]


def interval(a: Array, b: Array, source: Array, **changes: Any) -> Intervals:
    one = np.zeros(a.shape[1], np.int32)
    codes = (sp.csr_array(a.T), sp.csr_array(b.T))
    return correlation_intervals(*codes, one, one, Strata.of("document", source), **changes)


def sparse_pair(random: np.random.Generator, rows: int, r: float = 0.5) -> tuple[Array, Array]:
    """Features that fire on a tenth of the rows with strengths of mean 1 and square 1.25.

    Where both fire, strengths are equal; r = (both E x² - mean²) / (rate E x² - mean²).
    """
    rate, square = 0.1, 1.25
    both = (r * (rate * square - rate**2) + rate**2) / square
    drawn = random.random(rows)
    strength = random.gamma(4, 0.25, rows)
    a = np.where(drawn < rate, strength, 0)
    b = np.where((drawn < both) | ((drawn >= rate) & (drawn < 2 * rate - both)), strength, 0)
    return a[:, None], b[:, None]


def test_ends_equal_a_jackknife_over_gathered_sources() -> None:
    random = np.random.default_rng(0)
    source = np.repeat(np.arange(30), random.integers(5, 60, 30))
    a, b = sparse_pair(random, len(source))

    def h(rows: Array) -> float:
        r = np.corrcoef(a[rows, 0], b[rows, 0])[0, 1]
        return float(np.log((r + 0.02) / (1 - r)))

    left = np.array([h(source != s) for s in range(30)])
    psi = left - left.mean()
    squares = (psi**2).sum()
    share = np.zeros(30)
    for x in (a, b):
        share += np.bincount(source, x[:, 0] ** 2) / (x**2).sum() / 2
    freedom = min(
        29, 2 / ((psi**4).sum() / squares**2 - 1 / 30), 1 / (share**2).sum() - 1
    )  # fmt: skip
    half = t.ppf(0.975, freedom) * np.sqrt(29 / 30 * squares)
    odds = np.exp(h(np.ones(len(source), bool)) + np.array([-half, half]))
    found = interval(a, b, source)
    np.testing.assert_allclose(
        [found.low[0], found.high[0]], (odds - 0.02) / (1 + odds), rtol=1e-9
    )  # fmt: skip


@pytest.mark.parametrize("held", [1.0, 0.4])
def test_one_source_that_decides_leaves_one_degree_of_freedom(held: float) -> None:
    """Either nearly all of the activations are in one source, or it alone changes r."""
    sources = 25
    deleted = np.full((1, sources), 0.5)
    deleted[0, 3] = 0.4
    share = np.full((1, sources), (1 - held) / (sources - 1))
    share[0, 3] = held
    low, high = jackknife(np.array([0.5]), deleted, share, depth=0.02, confidence=0.95)
    h = np.log((deleted[0] + 0.02) / (1 - deleted[0]))
    squares = ((h - h.mean()) ** 2).sum()
    freedom = max(1.0, min(1 / (share**2).sum() - 1, sources - 1.0))
    even = ((h - h.mean()) ** 4).sum() / squares**2
    freedom = max(1.0, min(freedom, 2 / (even - 1 / sources)))
    half = t.ppf(0.975, freedom) * np.sqrt((sources - 1) / sources * squares)
    odds = np.exp(np.log(0.52 / 0.5) + np.array([-half, half]))
    np.testing.assert_allclose([low[0], high[0]], (odds - 0.02) / (1 + odds), rtol=1e-9)
    assert freedom == 1.0 if held == 1.0 else 1.0 < freedom < 4


def test_intervals_hold_the_true_correlation_as_often_as_they_say() -> None:
    random = np.random.default_rng(2)
    source = np.arange(2400) % 40
    pairs = [sparse_pair(random, 2400) for _ in range(400)]
    a, b = (sp.csr_array(np.hstack([pair[side] for pair in pairs]).T) for side in (0, 1))
    each = np.arange(400)
    found = correlation_intervals(a, b, each, each, Strata.of("document", source))
    held = ((found.low <= 0.5) & (found.high >= 0.5)).mean()
    # the standard error of the share is .011
    assert 0.92 < held < 0.98


def test_intervals_do_not_shrink_when_sources_only_get_longer() -> None:
    random = np.random.default_rng(1)
    a, b = sparse_pair(random, 40 * 25)
    source = np.repeat(np.arange(40), 25)
    once, ten_times = (
        interval(np.repeat(a, n, 0), np.repeat(b, n, 0), np.repeat(source, n)) for n in (1, 10)
    )
    np.testing.assert_allclose(ten_times.low, once.low, rtol=1e-9)
    np.testing.assert_allclose(ten_times.high, once.high, rtol=1e-9)
    assert once.high[0] - once.low[0] > 0.05


def test_fewer_than_twenty_sources_have_no_interval() -> None:
    a, b = sparse_pair(np.random.default_rng(3), 1000)
    assert LEAST_SOURCES == 20
    some, few = (interval(a, b, np.arange(1000) % sources) for sources in (20, 19))
    assert some.low[0] < some.high[0]
    assert np.isnan([few.low[0], few.high[0]]).all()


def test_a_constant_feature_has_no_interval() -> None:
    for constant in (np.zeros((40, 1)), np.ones((40, 1))):
        found = interval(constant, np.eye(40, 1), np.arange(40))
        assert np.isnan([found.low[0], found.high[0]]).all()


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_senseless_confidence_is_refused(confidence: float) -> None:
    ones = np.ones((40, 1))
    with pytest.raises(InvalidInput, match=f"confidence {confidence} must lie in"):
        interval(ones, ones, np.arange(40), confidence=confidence)


def test_the_scale_of_activations_changes_no_interval() -> None:
    a, b = sparse_pair(np.random.default_rng(5), 1000)
    source = np.arange(1000) % 40
    whole, faint = interval(a, b, source), interval(a / 1024, b / 4096, source)
    np.testing.assert_array_equal([faint.low, faint.high], [whole.low, whole.high])


def test_ends_stay_within_what_a_correlation_can_be() -> None:
    random = np.random.default_rng(6)
    for _ in range(20):
        a = random.random((40, 1)) + 0.1
        for b, r in ((3 * a, 1.0), (2 - a, -1.0)):
            found = interval(a, b, np.arange(40))
            assert -1.0 <= found.low[0] <= found.high[0] <= 1.0
            np.testing.assert_allclose([found.low[0], found.high[0]], r, atol=1e-6)


def test_features_that_never_fire_together_have_an_interval_around_a_negative_r() -> None:
    random = np.random.default_rng(8)
    fires = random.random((2000, 1))
    a, b = (
        (fires < 0.4).astype(float),
        (fires >= 0.4).astype(float) + 0.1 * random.random((2000, 1)),
    )
    r = np.corrcoef(a[:, 0], b[:, 0])[0, 1]
    found = interval(a, b, np.arange(2000) % 40)
    assert -1 < found.low[0] < r < found.high[0] < -0.5


def test_many_pairs_are_measured_in_blocks_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    from isogloss.universality.nulls import intervals

    random = np.random.default_rng(7)
    sources = Strata.of("document", np.arange(600) % 30)
    a, b = (sp.csr_array(random.random((3, 600))) for _ in range(2))
    of_a, of_b = random.integers(0, 3, 40), random.integers(0, 3, 40)
    together = correlation_intervals(a, b, of_a, of_b, sources)
    monkeypatch.setattr(intervals, "_BLOCK_CELLS", 7 * 30)
    blocks = correlation_intervals(a, b, of_a, of_b, sources)
    np.testing.assert_array_equal(blocks.low, together.low)
    np.testing.assert_array_equal(blocks.high, together.high)


def test_effective_firings_count_rows_that_hold_the_variance() -> None:
    """Equal firings count each, one huge one counts alone; the scale changes nothing."""
    equal, one_huge = np.full(12, 3.0), np.array([1000.0, *np.full(11, 1.0)])
    dense = np.zeros((3, 20))
    dense[0, :12], dense[1, :12] = equal, one_huge
    found = effective_firings(sp.csr_array(dense))
    np.testing.assert_allclose(found, [12.0, 1.0, 0.0], rtol=1e-4)
    np.testing.assert_allclose(effective_firings(sp.csr_array(7 * dense)), found)
    values = np.array([0.3, 2.0, 5.0])
    wanted = (values**2).sum() ** 2 / (values**4).sum()
    assert effective_firings(sp.csr_array(values[None]))[0] == pytest.approx(wanted)
