"""The null repeats matching on shuffled rows: calibrated, seeded, and faithful to its stratum."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.universality.correlation.best_matches import best_matches
from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.nulls.shuffles import (
    BAND_EDGES,
    Half,
    band_of,
    band_quantiles,
    count_at,
    draw_null,
)
from isogloss.universality.nulls.strata import Strata

Array = NDArray[Any]

THRESHOLDS = np.array([0.1, 0.2, 0.3, 0.5])


def half(a: Array, b: Array, tokens: Array) -> Half:
    return Half(
        a=sp.csr_array(a.T),
        b=sp.csr_array(b),
        strata=(Strata.of("none", tokens), Strata.of("token", tokens)),
    )


def independent(generator: np.random.Generator, rows: int, features: int = 150) -> Array:
    return generator.random((rows, features)) * (generator.random((rows, features)) < 0.03)


def observed(choose: Half, report: Half, min_r: float) -> Array:
    """The report-half r of the pairs that the unshuffled rows choose."""
    of_a, of_b = best_matches(choose.a, choose.b).mutual(min_r)
    return pair_statistics(report.a, sp.csr_array(report.b.T), of_a, of_b).r


def test_independent_codes_match_as_often_as_under_the_null() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, 50, 1500)
    choose, report = (
        half(independent(generator, 1500), independent(generator, 1500), tokens) for _ in range(2)
    )
    null = draw_null("none", choose, report, draws=10, seed=0, min_r=0.05)
    best = best_matches(choose.a, choose.b)
    # the best r of 150 features: medians of observed and null agree, and so does the spread
    assert abs(np.median(best.a.r) - np.median(null.best_a)) < 0.005
    low, high = np.quantile(null.best_a, [0.25, 0.75])
    inside = ((best.a.r >= low) & (best.a.r <= high)).mean()
    assert 0.35 < inside < 0.65
    pairs = len(best.mutual(0.05)[0])
    per_draw = np.bincount(null.pair_draw, minlength=10)
    assert per_draw.min() - 10 <= pairs <= per_draw.max() + 10
    # chosen by chance, so nothing is left on fresh rows
    assert (count_at(observed(choose, report, 0.05), THRESHOLDS)[1:] == 0).all()
    assert (null.shared(THRESHOLDS)[1:] < 1).all()


def test_token_functions_match_alike_under_the_token_null_and_never_under_the_free_one() -> None:
    generator = np.random.default_rng(1)
    of_token = generator.random((60, 40)) * (generator.random((60, 40)) < 0.1)
    of_token[np.arange(40), np.arange(40)] = 1.0

    def codes(tokens: Array) -> Array:
        noise = 1 + 0.1 * generator.random((len(tokens), 40))
        return of_token[tokens] * noise

    tokens = [generator.integers(0, 60, 2000) for _ in range(2)]
    choose, report = (half(codes(t), codes(t), t) for t in tokens)
    found = count_at(observed(choose, report, 0.1), THRESHOLDS)
    token = draw_null("token", choose, report, draws=2, seed=0, min_r=0.1)
    free = draw_null("none", choose, report, draws=2, seed=0, min_r=0.1)
    assert found[3] == 40
    np.testing.assert_array_equal(token.shared(THRESHOLDS), found)
    assert free.shared(THRESHOLDS)[2] == 0
    assert np.abs(np.median(token.best_a) - np.median(best_matches(choose.a, choose.b).a.r)) < 0.02


def test_pairs_that_agree_beyond_their_token_exceed_the_token_null() -> None:
    generator = np.random.default_rng(2)
    tokens = generator.integers(0, 30, 2000)
    halves: list[Half] = []
    for _ in range(2):
        a = independent(generator, 2000, 20)
        halves.append(half(a, a[:, ::-1] * (generator.random((2000, 20)) < 0.9), tokens))
    null = draw_null("token", halves[0], halves[1], draws=1, seed=0, min_r=0.1)
    assert (count_at(observed(halves[0], halves[1], 0.1), THRESHOLDS) == 20).all()
    assert null.shared(THRESHOLDS)[2] == 0


def test_both_halves_are_shuffled_and_not_only_the_one_that_chooses() -> None:
    generator = np.random.default_rng(4)
    halves: list[Half] = []
    for _ in range(2):
        tokens = generator.integers(0, 20, 3000)
        strength = 0.1 + generator.random((3000, 20))
        both = (tokens[:, None] == np.arange(20)) * strength
        halves.append(half(both, both, tokens))
    null = draw_null("token", halves[0], halves[1], draws=1, seed=0, min_r=0.1)
    np.testing.assert_allclose(observed(halves[0], halves[1], 0.1), 1.0)
    # the token still finds each pair; how strongly it fires there agrees no more
    assert len(null.pair_r) == 20
    assert (null.pair_r < 0.85).all()


def test_equal_seeds_give_equal_draws_and_more_draws_keep_the_first() -> None:
    generator = np.random.default_rng(3)
    tokens = generator.integers(0, 9, 300)
    both = [half(independent(generator, 300), independent(generator, 300), tokens)] * 2
    one = draw_null("token", both[0], both[1], draws=1, seed=5, min_r=0.0)
    three = draw_null("token", both[0], both[1], draws=3, seed=5, min_r=0.0)
    np.testing.assert_array_equal(three.best_a[0], one.best_a[0])
    np.testing.assert_array_equal(three.pair_r[three.pair_draw == 0], one.pair_r)
    assert not np.array_equal(three.best_a[0], three.best_a[1])
    other = draw_null("token", both[0], both[1], draws=1, seed=6, min_r=0.0)
    assert not np.array_equal(other.best_a, one.best_a)


def test_a_null_says_how_many_rows_it_could_move() -> None:
    codes = np.ones((4, 1))
    one = half(codes, codes, np.array([1, 1, 2, 3]))
    assert draw_null("token", one, one, draws=1, seed=0, min_r=0.0).movable == 0.5


def test_counts_include_the_threshold_itself() -> None:
    r = np.array([0.3, 0.30000001, 0.5, -0.2])
    assert count_at(r, np.array([0.3, 0.5, 0.6])).tolist() == [3, 1, 0]
    assert count_at(np.zeros(0), np.array([0.1])).tolist() == [0]


def test_bands_begin_at_their_edges() -> None:
    assert band_of(np.array([0, 49, 50, 99, 100, 10**7])).tolist() == [0, 0, 1, 1, 2, 9]
    assert len(BAND_EDGES) == 9


def test_band_quantiles_pool_draws_and_borrow_from_near_bands() -> None:
    fires = np.repeat([60, 150, 3000], [60, 10, 60])
    best = np.repeat([0.2, 0.9, 0.1], [60, 10, 60]).astype(np.float32)
    found = band_quantiles([best[None]], [fires], 0.5)
    asked = found.of(np.array([60, 150, 3000]))
    # ten values are too few: the band of 150 borrows the sixty of the band below
    np.testing.assert_allclose(asked, [0.2, 0.2, 0.1], atol=1e-6)
    twice = band_quantiles([np.stack([best, best])] * 3, [fires] * 3, 0.5)
    np.testing.assert_allclose(twice.of(np.array([150])), [0.9], atol=1e-6)


def test_a_quantile_of_no_values_is_refused() -> None:
    with pytest.raises(InvalidInput, match="0 null values"):
        band_quantiles([np.zeros((1, 0), np.float32)], [np.zeros(0, np.int64)], 0.5)


def test_unknown_keys_and_zero_draws_are_refused() -> None:
    codes = np.ones((4, 1))
    one = half(codes, codes, np.arange(4))
    with pytest.raises(InvalidInput, match="'document'; this half has: none, token"):
        draw_null("document", one, one, draws=1, seed=0, min_r=0.0)
    with pytest.raises(InvalidInput, match="draws 0"):
        draw_null("none", one, one, draws=0, seed=0, min_r=0.0)


def test_bands_begin_at_the_firing_counts_that_are_documented() -> None:
    edges = np.array([50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000])
    np.testing.assert_array_equal(band_of(edges), np.arange(1, 10))
    np.testing.assert_array_equal(band_of(edges - 1), np.arange(9))


@pytest.mark.parametrize(("values", "alone"), [(50, True), (49, False)])
def test_a_band_borrows_from_both_neighbours_below_fifty_values(values: int, alone: bool) -> None:
    """Bands 1, 2 and 3; the middle one has so many values, its neighbours other ones."""
    counts = np.repeat([60, 150, 300], [80, values, 80])
    best = np.repeat([0.1, 0.5, 0.9], [80, values, 80]).astype(np.float32)
    lowest, highest = (
        band_quantiles([best[None]], [counts], quantile).of(np.array([150]))[0]
        for quantile in (0.01, 0.99)
    )
    np.testing.assert_allclose([lowest, highest], [0.5, 0.5] if alone else [0.1, 0.9], rtol=1e-6)


def test_the_most_frequent_features_have_a_band_of_their_own() -> None:
    counts = np.repeat([20, 99_999, 200_000], 60)
    best = np.repeat([0.1, 0.2, 0.3], 60).astype(np.float32)
    found = band_quantiles([best[None]], [counts], 0.5)
    asked = found.of(np.array([0, 20, 99_999, 100_000, 10**9]))
    np.testing.assert_allclose(asked, [0.1, 0.1, 0.2, 0.3, 0.3], rtol=1e-6)


def test_rare_bands_join_neighbours_until_all_are_joined() -> None:
    """Ten values in the first band and ten in the last: neither ever reaches fifty."""
    counts = np.repeat([20, 200_000], 10)
    best = np.repeat([0.2, 0.8], 10).astype(np.float32)
    found = band_quantiles([best[None]], [counts], 0.5)
    np.testing.assert_allclose(found.value, 0.5, rtol=1e-6)


def test_thresholds_count_pairs_that_reach_them() -> None:
    r = np.array([0.1, 0.5, 0.5, 0.9])
    np.testing.assert_array_equal(count_at(r, np.array([0.0, 0.5, 0.51, 0.95])), [4, 3, 1, 0])


def test_a_half_has_as_many_rows_as_its_codes() -> None:
    assert half(np.ones((7, 2)), np.ones((7, 3)), np.arange(7)).rows == 7
