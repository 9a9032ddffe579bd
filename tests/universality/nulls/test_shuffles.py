"""The null repeats matching on shuffled rows: calibrated, seeded, and faithful to its stratum."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import nbinom, t

from isogloss.errors import InvalidInput
from isogloss.universality.correlation.best_matches import best_matches
from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.nulls import shuffles
from isogloss.universality.nulls.shuffles import (
    BAND_EDGES,
    Half,
    NullDraws,
    band_of,
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
        sources=Strata.of("document", np.arange(len(tokens)) // 10),
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
    null = draw_null("none", choose, report, draws=10, most=10, seed=0, min_r=0.05)
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
    token = draw_null("token", choose, report, draws=2, most=2, seed=0, min_r=0.1)
    free = draw_null("none", choose, report, draws=2, most=2, seed=0, min_r=0.1)
    assert found[3] == 40
    np.testing.assert_allclose(token.shared(THRESHOLDS), found, atol=1)
    assert free.shared(THRESHOLDS)[2] == 0
    assert np.abs(np.median(token.best_a) - np.median(best_matches(choose.a, choose.b).a.r)) < 0.02


def test_pairs_that_agree_beyond_their_token_exceed_the_token_null() -> None:
    generator = np.random.default_rng(2)
    tokens = generator.integers(0, 30, 2000)
    halves: list[Half] = []
    for _ in range(2):
        a = independent(generator, 2000, 20)
        halves.append(half(a, a[:, ::-1] * (generator.random((2000, 20)) < 0.9), tokens))
    null = draw_null("token", halves[0], halves[1], draws=1, most=1, seed=0, min_r=0.1)
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
    null = draw_null("token", halves[0], halves[1], draws=1, most=1, seed=0, min_r=0.1)
    np.testing.assert_allclose(observed(halves[0], halves[1], 0.1), 1.0)
    # the token still finds each pair; how strongly it fires there agrees no more
    assert len(null.pair_r) == 20
    assert (null.pair_r < 0.9).all()


def test_equal_seeds_give_equal_draws_and_more_draws_keep_the_first() -> None:
    generator = np.random.default_rng(3)
    tokens = generator.integers(0, 9, 300)
    both = [half(independent(generator, 300), independent(generator, 300), tokens)] * 2
    one = draw_null("token", both[0], both[1], draws=1, most=1, seed=5, min_r=0.0)
    three = draw_null("token", both[0], both[1], draws=3, most=3, seed=5, min_r=0.0)
    np.testing.assert_array_equal(three.best_a[0], one.best_a[0])
    np.testing.assert_array_equal(three.pair_r[three.pair_draw == 0], one.pair_r)
    assert not np.array_equal(three.best_a[0], three.best_a[1])
    moved = tuple(shuffles._without_lone_rows(one, "token") for one in both)
    for draw in range(3):  # each chooses its own pairs, and measures these
        chosen, reported = shuffles._exchanged((moved[0], moved[1]), "token", 5, draw)
        pairs = best_matches(moved[0].a, chosen).mutual(0.0)
        r = pair_statistics(moved[1].a, sp.csr_array(reported.T), *pairs).r
        np.testing.assert_array_equal(three.pair_r[three.pair_draw == draw], r.astype(np.float32))
    other = draw_null("token", both[0], both[1], draws=1, most=1, seed=6, min_r=0.0)
    assert not np.array_equal(other.best_a, one.best_a)


def test_a_null_says_how_many_rows_it_could_move() -> None:
    codes = np.ones((4, 1))
    one = half(codes, codes, np.array([1, 1, 2, 3]))
    assert draw_null("token", one, one, draws=1, most=1, seed=0, min_r=0.0).movable == 0.5


def test_counts_include_the_threshold_itself() -> None:
    r = np.array([0.3, 0.30000001, 0.5, -0.2])
    assert count_at(r, np.array([0.3, 0.5, 0.6])).tolist() == [3, 1, 0]
    assert count_at(np.zeros(0), np.array([0.1])).tolist() == [0]


def test_bands_begin_at_their_edges() -> None:
    assert band_of(np.array([0, 49, 50, 99, 100, 10**7])).tolist() == [0, 0, 1, 1, 2, 9]
    assert len(BAND_EDGES) == 9


def test_unknown_keys_and_zero_draws_are_refused() -> None:
    codes = np.ones((4, 1))
    one = half(codes, codes, np.arange(4))
    with pytest.raises(InvalidInput, match="'document'; this half has: none, token"):
        draw_null("document", one, one, draws=1, most=1, seed=0, min_r=0.0)
    for draws, most in ((0, 1), (3, 2)):
        with pytest.raises(InvalidInput, match=f"draws {draws}.*at most the {most} of most"):
            draw_null("none", one, one, draws=draws, most=most, seed=0, min_r=0.0)


def test_rows_alone_with_their_token_are_no_part_of_its_null() -> None:
    """They would stay in place, and copies would match on them as if the token gave it."""
    generator = np.random.default_rng(5)
    halves: list[Half] = []
    for _ in range(2):
        tokens = np.concatenate([generator.integers(0, 20, 1000), 100 + np.arange(1000)])
        codes = independent(generator, 2000, 30)
        halves.append(half(codes, codes, tokens))
    null = draw_null("token", halves[0], halves[1], draws=2, most=2, seed=0, min_r=0.1)
    assert (observed(halves[0], halves[1], 0.1) > 0.99).all()
    assert null.movable == 0.5
    assert null.shared(THRESHOLDS)[2] == 0
    assert np.median(null.best_a) < 0.2


def test_a_null_of_tokens_that_all_stand_once_finds_nothing() -> None:
    codes = independent(np.random.default_rng(6), 50, 5)
    one = half(codes, codes, np.arange(50))
    null = draw_null("token", one, one, draws=2, most=2, seed=0, min_r=0.0)
    assert null.movable == 0
    assert null.shared(np.array([0.0])).tolist() == [0]


def drawn(counts: list[int]) -> NullDraws:
    """Draws that found so many pairs of r = .4."""
    return NullDraws(
        key="none",
        movable=1.0,
        best_a=np.zeros((len(counts), 1), np.float32),
        best_b=np.zeros((len(counts), 1), np.float32),
        pair_r=np.full(sum(counts), 0.4, np.float32),
        pair_draw=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
    )


def test_the_standard_error_is_that_of_the_mean_number_of_pairs() -> None:
    found = drawn([10, 14, 12]).standard_error(np.array([0.3, 0.5]))
    np.testing.assert_allclose(found, [2 / np.sqrt(3), 0])
    assert np.isnan(drawn([10]).standard_error(np.array([0.3]))).all()


@pytest.mark.parametrize(
    ("counts", "precise"),
    [
        ([10], False),
        ([10, 12], True),  # standard error 1
        ([10, 13], False),
        ([1000, 1039], True),  # 19.5 of 1,019
        ([1000, 1045], False),
    ],
)
def test_a_number_of_pairs_is_known_to_one_pair_or_two_per_cent(
    counts: list[int], precise: bool
) -> None:
    assert drawn(counts).is_precise == precise


def test_rows_are_exchanged_until_the_number_of_pairs_is_known() -> None:
    generator = np.random.default_rng(7)
    of_token = (generator.random((40, 60)) < 0.15) * 1.0
    tokens = [generator.integers(0, 40, 400) for _ in range(2)]

    def codes(token: Array) -> Array:
        return of_token[token] * (generator.random((400, 60)) < 0.5)

    halves = [half(codes(token), codes(token), token) for token in tokens]
    few = draw_null("token", halves[0], halves[1], draws=2, most=2, seed=0, min_r=0.1)
    found = draw_null("token", halves[0], halves[1], draws=2, most=60, seed=0, min_r=0.1)
    assert not few.is_precise
    assert found.is_precise
    assert 2 < found.draws <= 60
    np.testing.assert_array_equal(found.best_a[:2], few.best_a)
    at_most = draw_null("token", halves[0], halves[1], draws=2, most=3, seed=0, min_r=0.1)
    assert at_most.draws == 3


def test_bands_begin_at_the_firing_counts_that_are_documented() -> None:
    edges = np.array([50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000])
    np.testing.assert_array_equal(band_of(edges), np.arange(1, 10))
    np.testing.assert_array_equal(band_of(edges - 1), np.arange(9))


def test_thresholds_count_pairs_that_reach_them() -> None:
    r = np.array([0.1, 0.5, 0.5, 0.9])
    np.testing.assert_array_equal(count_at(r, np.array([0.0, 0.5, 0.51, 0.95])), [4, 3, 1, 0])


def test_a_half_has_as_many_rows_as_its_codes() -> None:
    assert half(np.ones((7, 2)), np.ones((7, 3)), np.arange(7)).rows == 7


def test_draws_of_seed_0_are_not_those_of_whoever_drew_the_text_with_seed_0() -> None:
    """numpy takes [0, 0, 0] for 0: rows ordered by these numbers would be ordered by token."""
    order = np.argsort(np.random.default_rng(0).random(2000))
    tokens = np.empty(2000, np.int64)
    tokens[order] = np.arange(2000) // 100
    codes = (tokens[:, None] == np.arange(20)) * 1.0
    one = half(codes, codes, tokens)
    null = draw_null("none", one, one, draws=1, most=1, seed=0, min_r=0.0)
    assert null.best_a.max() < 0.3


def test_one_more_draw_gives_no_more_than_the_highest_in_97_of_100_cases() -> None:
    chance, level = np.random.default_rng(0), np.array([0.3, 0.5])
    for mean in (0.0, 0.4, 3.0, 40.0):
        over = 0
        for _ in range(2000):
            counts = chance.poisson(mean, 21).tolist()
            high, none = drawn(counts[:20]).highest(level)
            over += counts[20] > high
            assert none >= 0
        assert over <= 2000 * 0.025 + 3 * np.sqrt(2000 * 0.025), mean
    assert drawn([0] * 20).highest(level)[0] <= 1
    assert drawn([0]).highest(level)[0] >= drawn([0] * 20).highest(level)[0]


def test_the_highest_is_the_larger_of_two_prediction_intervals() -> None:
    """Jeffreys' prior for Poisson counts, and Student's for counts that spread more."""
    for counts in ([3, 5, 10], [1, 30, 80, 9], [4, 4]):
        draws, mean = len(counts), float(np.mean(counts))
        poisson = nbinom.ppf(0.975, sum(counts) + 0.5, draws / (draws + 1))
        spread = np.std(counts, ddof=1) * np.sqrt(1 + 1 / draws)
        student = mean + t.ppf(0.975, draws - 1) * spread
        found = drawn(counts).highest(np.array([0.3]))[0]
        assert found == pytest.approx(max(poisson, student))
    assert drawn([7]).highest(np.array([0.3]))[0] == nbinom.ppf(0.975, 7.5, 0.5)


def test_counts_that_spread_more_than_poisson_have_a_higher_end() -> None:
    level = np.array([0.3])
    even, spread = drawn([20] * 10), drawn([5, 35] * 5)
    assert even.shared(level) == spread.shared(level)
    assert spread.highest(level)[0] > even.highest(level)[0] + 5
