"""Cosines of directions, and their mean one to one beside random rotations."""

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import ShapeError
from isogloss.universality.matching import directions
from isogloss.universality.matching.directions import Directions, matched_cosine, pair_cosines


def _rows(seed: int, features: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((features, width)).astype(np.float32)


def test_cosines_of_pairs_are_those_of_plain_numpy() -> None:
    a, b = _rows(0, 5, 8), _rows(1, 4, 8)
    found = pair_cosines(a, b, np.array([0, 4]), np.array([3, 1]))
    for value, (i, j) in zip(found, ((0, 3), (4, 1)), strict=True):
        wanted = a[i] @ b[j] / np.linalg.norm(a[i]) / np.linalg.norm(b[j])
        assert value == pytest.approx(wanted, abs=1e-6)


def test_there_is_no_cosine_between_widths_without_weights_or_of_a_zero_row() -> None:
    a, b = _rows(0, 3, 8), _rows(1, 3, 9)
    at = np.arange(3)
    assert np.isnan(pair_cosines(a, b, at, at)).all()
    assert np.isnan(pair_cosines(None, b, at, at)).all()
    a[1] = 0
    assert np.isnan(pair_cosines(a, a, at, at)).tolist() == [False, True, False]
    assert matched_cosine(a, b) is None


def test_a_reordered_decoder_is_found_and_an_unrelated_one_lies_at_its_null() -> None:
    a = _rows(0, 60, 24)
    same = matched_cosine(a, a[np.random.default_rng(1).permutation(60)])
    apart = matched_cosine(a, _rows(2, 60, 24))
    assert same is not None
    assert apart is not None
    assert same.value == pytest.approx(1.0, abs=1e-5)
    assert same.value > same.null + 20 * same.null_spread
    assert abs(apart.value - apart.null) < 6 * max(apart.null_spread, 0.005)


def test_of_many_features_candidates_find_what_all_cosines_find(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = _rows(0, 50, 16)
    noise = 0.3 * _rows(2, 50, 16)
    b = (a[np.random.default_rng(1).permutation(50)] + noise).astype(np.float32)
    whole = matched_cosine(a, b[:40])
    monkeypatch.setattr(directions, "DENSE_FEATURES", 10)
    sparse = matched_cosine(a, b[:40])
    assert whole is not None
    assert sparse is not None
    assert sparse.value == pytest.approx(whole.value, abs=1e-3)


def test_many_features_are_given_their_sixteen_best_candidates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directions, "DENSE_FEATURES", 10)
    a, b = (directions._unit(np.abs(_rows(seed, 40, 6))) for seed in (0, 1))  # cosines above 0
    scores = directions._scores(a, b)
    assert np.diff(scores.indptr).tolist() == [16] * 40
    cosines = np.clip(a @ b.T, 0, 1)
    for row in range(40):
        kept = scores.indices[scores.indptr[row] : scores.indptr[row + 1]]
        assert cosines[row, kept].min() >= np.sort(cosines[row])[-16] - 1e-6


def test_directions_of_unequal_features_are_refused() -> None:
    fits = Directions(decoder=_rows(0, 3, 4), encoder=_rows(0, 3, 5))
    assert fits.decoder.shape == (3, 4)
    with pytest.raises(ShapeError, match="equal features"):
        Directions(decoder=np.ones(3, np.float32))
    with pytest.raises(ShapeError, match="equal features"):
        Directions(decoder=_rows(0, 3, 4), encoder=_rows(0, 4, 4))
