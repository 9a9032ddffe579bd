"""Closed forms over strata equal dense centring and the mean of many shuffles."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.universality.correlation.moments import moments
from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.nulls.strata import (
    Strata,
    StratifiedPairs,
    explain_pairs,
    position_bins,
    stratum_sums,
)

Array = NDArray[Any]


def random_codes(seed: int, rows: int = 400, features: int = 12, density: float = 0.3) -> Array:
    generator = np.random.default_rng(seed)
    dense = generator.random((rows, features)) + 0.1
    return dense * (generator.random((rows, features)) < density)


def explain(a: Array, b: Array, of_a: Array, of_b: Array, strata: Strata) -> StratifiedPairs:
    major_a, major_b = sp.csr_array(a.T), sp.csr_array(b.T)
    return explain_pairs(
        stratum_sums(major_a, strata),
        stratum_sums(major_b, strata),
        moments(major_a),
        moments(major_b),
        (of_a, of_b),
        pair_statistics(major_a, major_b, of_a, of_b),
        strata,
    )


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
    strata = Strata.of("token", np.array([5, 5, 9, 9]))
    a, b = np.array([[1.0], [3.0], [0.0], [0.0]]), np.array([[2.0], [4.0], [0.0], [2.0]])
    found = explain(a, b, np.array([0]), np.array([0]), strata)
    # Σ_s a = (4, 0), Σ_s b = (6, 2), W = 12; B = 12 - 4*8/4 = 4; Σab = 14, C = 2
    # n var a = 10 - 4 = 6 (within 10 - 8 = 2); n var b = 24 - 16 = 8 (within 24 - 20 = 4)
    np.testing.assert_allclose(found.expected, 4 / np.sqrt(6 * 8), rtol=1e-14)
    np.testing.assert_allclose(found.partial, 2 / np.sqrt(2 * 4), rtol=1e-14)
    np.testing.assert_allclose(found.eta2_a, 4 / 6, rtol=1e-14)
    np.testing.assert_allclose(found.eta2_b, 4 / 8, rtol=1e-14)


def test_partial_correlation_equals_that_of_densely_centred_codes(tokens: Strata) -> None:
    a, b = random_codes(1), random_codes(2)
    a[:, 3] += 0.7 * b[:, 5]
    of_a, of_b = np.repeat(np.arange(12), 12), np.tile(np.arange(12), 12)
    found = explain(a, b, of_a, of_b, tokens)
    ca, cb = centred(a, tokens.label), centred(b, tokens.label)
    norm = np.outer(np.linalg.norm(ca, axis=0), np.linalg.norm(cb, axis=0))
    np.testing.assert_allclose(found.partial, (ca.T @ cb / norm)[of_a, of_b], atol=1e-12)
    np.testing.assert_allclose(found.eta2_a, 1 - (ca.var(0) / a.var(0))[of_a], atol=1e-12)
    np.testing.assert_allclose(found.eta2_b, 1 - (cb.var(0) / b.var(0))[of_b], atol=1e-12)


def test_r_splits_exactly_into_expected_and_partial(tokens: Strata) -> None:
    a, b = random_codes(3), random_codes(4)
    of = np.arange(12)
    found = explain(a, b, of, of, tokens)
    r = pair_statistics(sp.csr_array(a.T), sp.csr_array(b.T), of, of).r
    left = np.sqrt((1 - found.eta2_a) * (1 - found.eta2_b))
    np.testing.assert_allclose(r, found.expected + found.partial * left, atol=1e-13)


@pytest.mark.parametrize("key", ["none", "token", "position", "document"])
def test_closed_form_equals_the_mean_of_many_shuffles(key: str) -> None:
    generator = np.random.default_rng(0)
    strata = Strata.of(key, generator.integers(0, 25, 400))
    a, b = random_codes(5, features=3), random_codes(6, features=3)
    a += 0.5 * np.sin(strata.label)[:, None] ** 2
    b += 0.5 * np.sin(strata.label)[:, None] ** 2
    of = np.arange(3)
    found = explain(a, b, of, of, strata)
    # the same products as pair_statistics, which test_pair_statistics compares with these
    one, other = ((x - x.mean(0)) / np.linalg.norm(x - x.mean(0), axis=0) for x in (a, b))
    draws = [(one * other[strata.shuffle(generator)]).sum(0) for _ in range(400)]
    # the mean of 400 draws of r lies within five of its standard errors
    error = np.std(draws, axis=0) / 20
    assert (np.abs(np.mean(draws, axis=0) - found.expected) < 5 * error + 1e-12).all()
    if key == "none":
        np.testing.assert_allclose(found.expected, 0.0, atol=1e-12)
    else:
        assert (found.expected > 0.05).all()


def test_features_that_are_functions_of_the_token_have_no_partial_correlation(
    tokens: Strata,
) -> None:
    of_token = np.random.default_rng(8).random((tokens.size, 2)) + 0.1
    a, b = of_token[tokens.label, :1], of_token[tokens.label, 1:]
    found = explain(a, b, np.array([0]), np.array([0]), tokens)
    r = pair_statistics(sp.csr_array(a.T), sp.csr_array(b.T), np.array([0]), np.array([0])).r
    np.testing.assert_allclose(found.expected, r, atol=1e-12)
    np.testing.assert_allclose([found.eta2_a[0], found.eta2_b[0]], 1.0, atol=1e-9)
    assert np.isnan(found.partial).all()


def test_a_silent_feature_has_no_null_and_no_partial(tokens: Strata) -> None:
    found = explain(np.zeros((400, 1)), random_codes(1), np.array([0]), np.array([0]), tokens)
    assert found.expected.tolist() == [0.0]
    assert np.isnan(found.partial).all()
    assert found.eta2_a.tolist() == [0.0]


def test_stratum_sums_equal_a_dense_sum_and_leave_the_codes_alone(tokens: Strata) -> None:
    dense = random_codes(9)
    codes = sp.csr_array(dense.T)
    found = stratum_sums(codes, tokens).toarray()
    wanted = np.stack([dense[tokens.label == s].sum(0) for s in range(tokens.size)], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-13)
    np.testing.assert_array_equal(codes.toarray(), dense.T)


def test_a_shuffle_is_a_permutation_that_stays_within_strata(tokens: Strata) -> None:
    permutation = tokens.shuffle(np.random.default_rng(1))
    assert sorted(permutation.tolist()) == list(range(400))
    np.testing.assert_array_equal(tokens.label[permutation], tokens.label)
    moved = permutation != np.arange(400)
    assert 0.5 < moved.mean() < 1
    again = tokens.shuffle(np.random.default_rng(1))
    np.testing.assert_array_equal(permutation, again)


def test_every_arrangement_within_a_stratum_is_equally_likely() -> None:
    strata = Strata.of("token", np.array([1, 2, 1, 2, 1]))
    generator = np.random.default_rng(2)
    seen = [tuple(strata.shuffle(generator).tolist()) for _ in range(1200)]
    found, counts = np.unique(seen, axis=0, return_counts=True)
    assert len(found) == 12
    # 100 expected each, standard deviation 9.6
    assert counts.min() > 52
    assert counts.max() < 148


def test_movable_is_the_share_of_rows_that_are_not_alone() -> None:
    assert Strata.of("token", np.array([1, 1, 2, 3])).movable == 0.5
    assert Strata.of("none", np.array([1, 1, 2, 3])).movable == 1.0


def test_early_positions_stay_apart_and_late_ones_merge_by_octave() -> None:
    bins = position_bins(np.arange(2000))
    assert bins[:32].tolist() == list(range(32))
    assert (np.diff(bins) >= 0).all()
    assert len(set(bins[64:128].tolist())) == 8
    assert len(set(bins[512:1024].tolist())) == 8


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'colour'.*use one of none, token"):
        Strata.of("colour", np.arange(3))


def test_strata_of_other_rows_are_refused(tokens: Strata) -> None:
    with pytest.raises(ShapeError, match="10 rows and the strata 400"):
        stratum_sums(sp.csr_array(np.ones((2, 10))), tokens)
