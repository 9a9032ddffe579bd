"""Features that several of the other dictionary stand for together: split and merged features.

A feature of one dictionary is regressed on every small subset of its strongest partners in the
other. The subset with the largest R² on the choose half is taken, and its R² measured on the report
half with the weights of the choose half. Where one feature is split in two, neither part reaches
the R² that both have together; merged features are found by asking in the other direction.

The null takes all of it again on shuffled rows: other partners, other subsets, other weights, so
that the maximum over subsets is in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.universality.correlation.candidates import best_candidates, strongest_of_row
from isogloss.universality.correlation.moments import moments, row_blocks
from isogloss.universality.matching.settings import MOST_MEMBERS
from isogloss.universality.nulls.intervals import Floats

CANDIDATES = 8
"""Partners of a feature of which subsets are tried."""

_RIDGE = 1e-9
_BLOCK_PAIRS = 4096
_BLOCK_FEATURES = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Subsets:
    """For each feature the subset of the other dictionary's that predicts it best."""

    members: NDArray[np.int32]
    """Features of the other dictionary, ``[features, most]``; -1 where the subset has fewer."""
    r2_choose: Floats
    """R² of the subset on the half that chose it, ``[features]``: optimistic."""
    r2: Floats
    """R² on the report half, weights of the choose half: squared correlation of the weighted sum
    with the feature, 0 where that is not above 0, ``[features]``."""
    r2_single: Floats
    """The same of the best single partner, ``[features]``."""
    null_r2: Mapping[str, Floats]
    """``r2`` when all is done again on rows that were shuffled, by key of the null."""

    @property
    def gain(self) -> Floats:
        """What the subset explains beyond its best single member, ``[features]``."""
        return self.r2 - self.r2_single

    def shared(self, r: float) -> tuple[int, int, dict[str, int]]:
        """Count the features that reach a correlation, by a subset, alone, and under the nulls.

        Args:
            r: correlation that the weighted sum must have.

        Returns:
            Features by a subset, features by a single partner, and by key of the null.
        """
        bar = r * r
        nulls = {key: int((found >= bar).sum()) for key, found in self.null_r2.items()}
        return int((self.r2 >= bar).sum()), int((self.r2_single >= bar).sum()), nulls


def best_subsets(
    a: tuple[sp.csr_array, sp.csr_array], b: tuple[sp.csr_array, sp.csr_array], *, most: int
) -> Subsets:
    """Find for each feature of a dictionary the subset of another's that predicts it best.

    Args:
        a: feature-major codes of the dictionary whose features are explained, ``[features_a,
            rows]``, on the choose and on the report half.
        b: row-major codes of the other, ``[rows, features_b]``, on both halves.
        most: members of a subset at most, 1 to ``MOST_MEMBERS``.

    Returns:
        The subsets, without a null.

    Raises:
        InvalidInput: ``most`` is out of range.
    """
    if not 1 <= most <= MOST_MEMBERS:
        raise InvalidInput(f"subsets of {most} features, wanted 1 to {MOST_MEMBERS}")
    partners = strongest_of_row(best_candidates(a[0], b[0], CANDIDATES), CANDIDATES)
    choose, report = (
        _Gram.of(one, other.T.tocsr(), partners) for one, other in zip(a, b, strict=True)
    )
    features = len(partners)
    found = Subsets(
        members=np.full((features, most), -1, np.int32),
        r2_choose=np.zeros(features),
        r2=np.zeros(features),
        r2_single=np.zeros(features),
        null_r2={},
    )
    for start, stop in row_blocks(features, _BLOCK_FEATURES):
        part = slice(start, stop)
        best = _best(choose, partners, part, most)
        single = _best(choose, partners, part, 1)
        found.r2_choose[part] = best.r2
        found.r2[part] = report.r2(part, best.weights)
        found.r2_single[part] = report.r2(part, single.weights)
        for row, places in enumerate(best.places):
            chosen = partners[start + row, places[places >= 0]]
            found.members[start + row, : len(chosen)] = chosen
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chosen:
    """The best subsets of a block of features."""

    places: NDArray[np.int64]
    """Places among the candidates, ``[features, most]``; -1: fewer."""
    weights: Floats
    """Weight of each candidate, 0 outside the subset, ``[features, CANDIDATES]``."""
    r2: Floats
    """On the half that chose."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gram:
    """Correlations of features with their candidates, and of the candidates with each other."""

    own: Floats
    """``[features, CANDIDATES]``; 0 where there is no candidate, or one that is constant."""
    among: Floats
    """``[features, CANDIDATES, CANDIDATES]``, 1 on the diagonal."""
    spread: Floats
    """√ of the centred sum of squares of each candidate, ``[features, CANDIDATES]``."""

    @classmethod
    def of(cls, a: sp.csr_array, b: sp.csr_array, partners: NDArray[np.int64]) -> "_Gram":
        """Sum over one half: both matrices feature-major."""
        features, width = partners.shape
        known = partners >= 0
        at = np.where(known, partners, 0)
        moments_a, moments_b = moments(a), moments(b)
        scale_a, scale_b = moments_a.spread, moments_b.spread
        rows = moments_a.rows

        def correlation(products: Floats, total: Floats, total_b: Floats, scale: Floats) -> Floats:
            covariance = rows * products - total * total_b
            return np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)

        feature, place = np.nonzero(known)
        own = np.zeros((features, width))
        partner = partners[feature, place]
        own[feature, place] = correlation(
            _products(a, b, feature, partner),
            moments_a.total[feature],
            moments_b.total[partner],
            scale_a[feature] * scale_b[partner],
        )
        among = np.zeros((features, width, width))
        among[:, np.arange(width), np.arange(width)] = 1.0
        for left, right in combinations(range(width), 2):
            some = np.flatnonzero(known[:, left] & known[:, right])
            one, other = partners[some, left], partners[some, right]
            among[some, left, right] = among[some, right, left] = correlation(
                _products(b, b, one, other),
                moments_b.total[one],
                moments_b.total[other],
                scale_b[one] * scale_b[other],
            )
        return cls(own=own, among=among, spread=np.where(known, scale_b[at], 0.0))

    def r2(self, part: slice, weights: Floats) -> Floats:
        """Return the squared correlation of weighted sums with their feature; 0 where negative.

        Weights are those of the candidates themselves, not of standardised ones.
        """
        scaled = weights * self.spread[part]
        covariance = (scaled * self.own[part]).sum(axis=1)
        variance = np.einsum("fi,fij,fj->f", scaled, self.among[part], scaled)
        sound = (variance > 0) & (covariance > 0)
        found = np.divide(covariance**2, variance, out=np.zeros(len(weights)), where=sound)
        return np.minimum(found, 1.0)


def _best(gram: _Gram, partners: NDArray[np.int64], part: slice, most: int) -> _Chosen:
    """Try every subset; the first of equal ones, with the fewest members, wins."""
    known = partners[part] >= 0
    own, among = gram.own[part], gram.among[part]
    features, width = known.shape
    best = np.zeros(features)
    weights = np.zeros((features, width))
    places = np.full((features, most), -1, np.int64)
    for size in range(1, most + 1):
        for subset in combinations(range(width), size):
            chosen = list(subset)
            inside = among[:, chosen][:, :, chosen] + _RIDGE * np.eye(size)
            solved = np.linalg.solve(inside, own[:, chosen, None])[:, :, 0]
            r2 = (solved * own[:, chosen]).sum(axis=1)
            wins = known[:, chosen].all(axis=1) & (r2 > best + 1e-12)
            best = np.where(wins, r2, best)
            weights[wins] = 0.0
            places[wins] = -1
            for number, place in enumerate(chosen):
                weights[wins, place] = solved[wins, number]
                places[wins, number] = place
    scale = gram.spread[part]
    raw = np.divide(weights, scale, out=np.zeros_like(weights), where=scale > 0)
    return _Chosen(places=places, weights=raw, r2=np.minimum(best, 1.0))


def _products(
    a: sp.csr_array, b: sp.csr_array, of_a: NDArray[np.integer], of_b: NDArray[np.integer]
) -> Floats:
    """Return Σab of given features of both, ``[pairs]``."""
    found = np.zeros(len(of_a))
    for start, stop in row_blocks(len(of_a), _BLOCK_PAIRS):
        both = a[of_a[start:stop]].multiply(b[of_b[start:stop]])
        found[start:stop] = both.sum(axis=1)
    return found
