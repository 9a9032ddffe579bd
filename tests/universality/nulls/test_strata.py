"""Closed forms over strata equal dense centring and the mean of many exchanges."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.nulls.strata import (
    Strata,
    StratifiedPairs,
    explain_pairs,
    joint_values,
    position_bins,
    stratum_sums,
)

Array = NDArray[Any]


def random_codes(seed: int, rows: int = 400, features: int = 12, density: float = 0.3) -> Array:
    generator = np.random.default_rng(seed)
    dense = generator.random((rows, features)) + 0.1
    return dense * (generator.random((rows, features)) < density)


def explain(a: Array, b: Array, of_a: Array, of_b: Array, strata: Strata) -> StratifiedPairs:
    return explain_pairs(sp.csr_array(a.T), sp.csr_array(b.T), of_a, of_b, strata)


def centred(x: Array, label: Array) -> Array:
    """Subtract from each row the mean of its stratum, the dense way."""
    out = x.copy()
    for stratum in np.unique(label):
        out[label == stratum] -= x[label == stratum].mean(0)
    return out


@pytest.fixture
def tokens() -> Strata:
    return Strata.of("token", np.random.default_rng(7).zipf(1.5, 400) % 40)


def test_a_case_worked_by_hand() -> None:
    """Twenty rows of each of two tokens, alternating; the last row is alone with its token."""
    label = np.repeat([5, 9, 7], [20, 20, 1])
    a, b = np.tile([1.0, 3.0], 20), np.tile([2.0, 4.0], 20)
    a[20:], b[20:] = 0.5 * a[20:], 0.5 * b[20:]
    a, b = np.append(a, 50.0)[:, None], np.append(b, 60.0)[:, None]
    found = explain(a, b, np.array([0]), np.array([0]), Strata.of("token", label))
    # Σ_s a = 40, 20; Σ_s b = 60, 30; Σ_s ab = 10 * (2 + 12) = 140, 35; Σ_s a² = 100, 25;
    # Σ_s b² = 200, 50. Products of different rows: (2400 - 140 + 600 - 35) / 19, less 60 * 90 / 40.
    between = 2825 / 19 - 135
    total_a, total_b = 125 - 60**2 / 40, 250 - 90**2 / 40
    np.testing.assert_allclose(found.expected, between / np.sqrt(total_a * total_b), rtol=1e-12)
    np.testing.assert_allclose(found.eta2_a, ((2000 - 125) / 19 - 90) / total_a, rtol=1e-12)
    np.testing.assert_allclose(found.eta2_b, ((4500 - 250) / 19 - 202.5) / total_b, rtol=1e-12)
    within = (175 - 150, 125 - 100, 250 - 225)  # Σab - Σ_s a Σ_s b / 20, and so on
    np.testing.assert_allclose(found.partial, within[0] / np.sqrt(within[1] * within[2]))


def test_partial_correlation_equals_that_of_densely_centred_codes(tokens: Strata) -> None:
    a, b = random_codes(1), random_codes(2)
    a[:, 3] += 0.7 * b[:, 5]
    of_a, of_b = np.repeat(np.arange(12), 12), np.tile(np.arange(12), 12)
    found = explain(a, b, of_a, of_b, tokens)
    ca, cb = centred(a, tokens.label), centred(b, tokens.label)
    norm = np.outer(np.linalg.norm(ca, axis=0), np.linalg.norm(cb, axis=0))
    np.testing.assert_allclose(found.partial, (ca.T @ cb / norm)[of_a, of_b], atol=1e-12)


@pytest.mark.parametrize("key", ["none", "token", "position", "document"])
def test_closed_form_equals_the_mean_of_many_exchanges(key: str) -> None:
    generator = np.random.default_rng(0)
    strata = Strata.of(key, generator.integers(0, 25, 400))
    a, b = random_codes(5, features=3), random_codes(6, features=3)
    a += 0.5 * np.sin(strata.label)[:, None] ** 2
    b += 0.5 * np.sin(strata.label)[:, None] ** 2
    of = np.arange(3)
    found = explain(a, b, of, of, strata)
    one, other = ((x - x.mean(0)) / np.linalg.norm(x - x.mean(0), axis=0) for x in (a, b))
    draws = [(one * other[strata.exchange(generator)]).sum(0) for _ in range(400)]
    # the mean of 400 draws of r lies within five of its standard errors
    error = np.std(draws, axis=0) / 20
    assert (np.abs(np.mean(draws, axis=0) - found.expected) < 5 * error + 1e-12).all()
    if key != "none":
        assert (found.expected > 0.05).all()


def test_what_has_nothing_to_do_with_rare_tokens_is_not_explained_by_them() -> None:
    """Zipf's tokens, 5,000 rows: plain shares would say .44, for there are so many tokens."""
    generator = np.random.default_rng(0)
    edges = np.cumsum(1 / np.arange(1, 30_001))
    token = np.searchsorted(edges / edges[-1], generator.random(5000))
    strata = Strata.of("token", token)
    codes = sp.csr_array(sp.random_array((60, 5000), density=0.03, rng=generator))
    each = np.arange(60)
    found = explain_pairs(codes, codes, each, each, strata)
    assert strata.bias > 0.3
    assert abs(found.eta2_a.mean()) < 0.02
    assert abs(found.expected.mean()) < 0.02


@pytest.mark.parametrize(("firings", "known"), [(19, False), (20, True)])
def test_no_value_is_given_where_too_few_firings_can_move(firings: int, known: bool) -> None:
    """One hundred more firings stand on tokens that occur once and say nothing."""
    label = np.concatenate([np.zeros(200, int), np.arange(1, 101)])
    codes = np.zeros((300, 1))
    codes[:firings] = codes[200:] = 1.0
    zero = np.array([0])
    found = explain(codes, codes, zero, zero, Strata.of("token", label))
    for value in (found.expected, found.eta2_a, found.eta2_b):
        assert np.isfinite(value[0]) == known


def test_features_that_are_functions_of_the_token_have_no_partial_correlation() -> None:
    tokens = Strata.of("token", np.arange(400) % 40)
    of_token = np.random.default_rng(8).random((tokens.size, 2)) + 0.1
    a, b = of_token[tokens.label, :1], of_token[tokens.label, 1:]
    found = explain(a, b, np.array([0]), np.array([0]), tokens)
    r = pair_statistics(sp.csr_array(a.T), sp.csr_array(b.T), np.array([0]), np.array([0])).r
    np.testing.assert_allclose(found.expected, r, atol=1e-12)
    np.testing.assert_allclose([found.eta2_a[0], found.eta2_b[0]], 1.0, atol=1e-9)
    assert np.isnan(found.partial).all()


def test_how_strong_activations_are_changes_nothing_of_what_strata_explain(tokens: Strata) -> None:
    """Some dictionaries give activations of 1e-6."""
    a, b = random_codes(1), random_codes(2)
    each = np.arange(12)
    strong, weak = (explain(scale * a, scale * b, each, each, tokens) for scale in (1.0, 1e-6))
    for name in ("expected", "partial", "eta2_a", "eta2_b"):
        assert np.isfinite(getattr(strong, name)).all()
        np.testing.assert_allclose(getattr(weak, name), getattr(strong, name), rtol=1e-6)


def test_a_silent_feature_has_no_null_and_no_partial(tokens: Strata) -> None:
    found = explain(np.zeros((400, 1)), random_codes(1), np.array([0]), np.array([0]), tokens)
    for value in (found.expected, found.partial, found.eta2_a):
        assert np.isnan(value).all()


def test_stratum_sums_equal_a_dense_sum_and_leave_the_codes_alone(tokens: Strata) -> None:
    dense = random_codes(9)
    codes = sp.csr_array(dense.T)
    found = stratum_sums(codes, tokens).toarray()
    wanted = np.stack([dense[tokens.label == s].sum(0) for s in range(tokens.size)], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-13)
    np.testing.assert_array_equal(codes.toarray(), dense.T)


def test_an_exchange_stays_within_strata_and_leaves_no_row_that_has_another() -> None:
    strata = Strata.of("token", np.random.default_rng(7).zipf(1.5, 400) % 200)
    permutation = strata.exchange(np.random.default_rng(1))
    assert sorted(permutation.tolist()) == list(range(400))
    np.testing.assert_array_equal(strata.label[permutation], strata.label)
    moved = permutation != np.arange(400)
    np.testing.assert_array_equal(moved, strata.counts[strata.label] > 1)
    assert 0 < moved.sum() < 400
    again = strata.exchange(np.random.default_rng(1))
    np.testing.assert_array_equal(permutation, again)


def test_every_other_row_of_a_stratum_is_equally_likely_to_be_taken() -> None:
    strata = Strata.of("token", np.array([1, 2, 1, 2, 1, 1]))
    generator = np.random.default_rng(2)
    taken = np.array([strata.exchange(generator) for _ in range(900)])
    assert (taken[:, 1] == 3).all()
    found, counts = np.unique(taken[:, 0], return_counts=True)
    assert found.tolist() == [2, 4, 5]
    # 300 expected each, standard deviation 14
    assert counts.min() > 230
    assert counts.max() < 370


def test_taking_rows_renumbers_their_strata() -> None:
    found = Strata.of("token", np.array([5, 7, 5, 9])).take(np.array([3, 0, 2]))
    assert found.label.tolist() == [1, 0, 0]
    assert found.counts.tolist() == [2, 1]
    assert found.key == "token"


def test_movable_is_the_share_of_rows_that_are_not_alone() -> None:
    assert Strata.of("token", np.array([1, 1, 2, 3])).movable == 0.5
    assert Strata.of("none", np.array([1, 1, 2, 3])).movable == 1.0


def test_bias_is_what_plain_shares_explain_by_chance() -> None:
    generator = np.random.default_rng(3)
    strata = Strata.of("token", generator.integers(0, 60, 400))
    noise = generator.standard_normal((400, 200))
    shares = 1 - (centred(noise, strata.label) ** 2).sum(0) / ((noise - noise.mean(0)) ** 2).sum(0)
    assert strata.bias == pytest.approx(59 / 399)
    assert shares.mean() == pytest.approx(strata.bias, abs=0.01)


def test_early_positions_stay_apart_and_late_ones_merge_by_octave() -> None:
    bins = position_bins(np.arange(2000))
    assert bins[:32].tolist() == list(range(32))
    assert (np.diff(bins) >= 0).all()
    assert len(set(bins[64:128].tolist())) == 8
    assert len(set(bins[512:1024].tolist())) == 8


def test_token_and_position_together_merge_positions_by_octave() -> None:
    position = np.array([0, 1, 2, 3, 4, 7, 8, 0])
    token = np.array([4, 4, 4, 4, 4, 4, 4, 6])
    _, label = np.unique(joint_values(token, position), return_inverse=True)
    assert label.tolist() == [0, 1, 2, 2, 3, 3, 4, 5]


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'colour'.*use one of none, token"):
        Strata.of("colour", np.arange(3))


def test_strata_of_other_rows_are_refused(tokens: Strata) -> None:
    with pytest.raises(ShapeError, match="10 rows and the strata 400"):
        stratum_sums(sp.csr_array(np.ones((2, 10))), tokens)
