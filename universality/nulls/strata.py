"""What a stratum (token, position, document) explains of a correlation, in closed form.

Write s for the stratum of a row, n_s for its rows, and sums over the rows of a stratum as Σ_s a.
Everything here follows from Σ_s a, which is as sparse as the codes. With W, the sum over strata of
(Σ_s a)(Σ_s b) / n_s,

    covariance between strata    B  = W - Σa Σb / n
    covariance within strata     C  = Σab - W
    expected r                   B / (n σ_a σ_b), the mean of r over shuffles within strata
    explained variance           η²(a) = B(a, a) / (n σ_a²)
    partial correlation          C(a, b) / √(C(a, a) C(b, b)) = corr(a - E[a|s], b - E[b|s])

so that ``r = expected + partial √((1 - η²(a)) (1 - η²(b)))`` exactly. The centred codes a - E[a|s]
are dense and never formed.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.universality.correlation.moments import Moments, shape_of
from isogloss.universality.correlation.pair_statistics import PairStatistics

KEYS = ("none", "token", "position", "document")
"""Keys of the stratified null: what a shuffle of the rows keeps in place."""

_EXACT_POSITIONS = 32
"""Positions below this are strata of their own; above, eight strata an octave."""

_NOTHING_WITHIN = 1e-9
"""Share of a feature's variance below which nothing is left within the strata."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Strata:
    """A partition of the rows; every label in ``[0, size)`` occurs."""

    key: str
    """What rows of one stratum have in common: one of ``KEYS``."""
    label: NDArray[np.int64]
    """Stratum of each row, ``[rows]``."""
    counts: NDArray[np.int64]
    """n_s: rows in each stratum, ``[size]``."""

    @property
    def rows(self) -> int:
        """How many rows are in the strata."""
        return int(self.label.size)

    @property
    def size(self) -> int:
        """How many strata there are."""
        return int(self.counts.size)

    @property
    def movable(self) -> float:
        """Share of the rows that are not alone in their stratum, so that a shuffle can move them.

        A null says little where this is small: a row alone in its stratum explains itself.
        """
        return float((self.counts[self.label] > 1).mean()) if self.rows else 0.0

    @classmethod
    def of(cls, key: str, values: NDArray[np.integer]) -> "Strata":
        """Partition rows by equal values.

        Args:
            key: one of ``KEYS``; with ``"none"`` the values do not matter and all rows are one
                stratum, with ``"position"`` they are merged as in ``position_bins``.
            values: token hash, position or document of each row, ``[rows]``.

        Returns:
            The partition.

        Raises:
            InvalidInput: unknown key.
        """
        if key not in KEYS:
            raise InvalidInput(f"unknown key {key!r} of a null; use one of {', '.join(KEYS)}")
        if key == "none":
            values = np.zeros(values.shape, dtype=np.int64)
        elif key == "position":
            values = position_bins(values)
        _, label, counts = np.unique(values, return_inverse=True, return_counts=True)
        return cls(key=key, label=label.astype(np.int64), counts=counts.astype(np.int64))

    def shuffle(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return a uniform random permutation of the rows that keeps every row in its stratum."""
        order = np.argsort(self.label, kind="stable")
        shuffled = np.lexsort((generator.random(self.rows), self.label))
        permutation = np.empty(self.rows, dtype=np.int64)
        permutation[order] = shuffled
        return permutation


@dataclass(frozen=True, kw_only=True, eq=False)
class StratifiedPairs:
    """How much of the correlation of given pairs the strata explain; arrays are ``[pairs]``."""

    expected: NDArray[np.float64]
    """Mean r when rows are shuffled within strata: the pair's null, in closed form."""
    partial: NDArray[np.float64]
    """Correlation within strata; NaN where a feature does not vary within any stratum."""
    eta2_a: NDArray[np.float64]
    """η²: share of the first feature's variance that the strata explain."""
    eta2_b: NDArray[np.float64]
    """Share of the second feature's variance that lies between strata."""


def position_bins(position: NDArray[np.integer]) -> NDArray[np.int64]:
    """Merge positions: each below 32 for itself, from there on eight bins an octave.

    Late positions are few (most documents are shorter); alone they would be strata of one row.
    """
    exact = position.astype(np.int64)
    octave = np.floor(8 * np.log2(np.maximum(exact, 1) / _EXACT_POSITIONS)).astype(np.int64)
    return np.where(exact < _EXACT_POSITIONS, exact, _EXACT_POSITIONS + octave)


def stratum_sums(features: sp.csr_array, strata: Strata) -> sp.csr_array:
    """Return Σ_s a of every feature: ``[features, strata]``, sparse, float64.

    Args:
        features: feature-major codes, ``[features, rows]``.
        strata: partition of the same rows.

    Returns:
        The sums; a stratum on which a feature is silent is not stored.

    Raises:
        ShapeError: the partition has a different number of rows.
    """
    if shape_of(features)[1] != strata.rows:
        raise ShapeError(
            f"codes cover {shape_of(features)[1]} rows and the strata {strata.rows}; "
            "take both from the same probe"
        )
    sums = sp.csr_array(
        (features.data, strata.label[features.indices], features.indptr),
        shape=(shape_of(features)[0], strata.size),
        copy=True,
    )
    sums.sum_duplicates()
    return sums


def explain_pairs(
    sums_a: sp.csr_array,
    sums_b: sp.csr_array,
    moments_a: Moments,
    moments_b: Moments,
    pairs: tuple[NDArray[np.integer], NDArray[np.integer]],
    statistics: PairStatistics,
    strata: Strata,
) -> StratifiedPairs:
    """Split the correlation of given pairs into what the strata explain and what they do not.

    Args:
        sums_a: ``stratum_sums`` of the first dictionary, ``[features_a, strata]``.
        sums_b: ``stratum_sums`` of the second.
        moments_a: moments of the first dictionary over the same rows.
        moments_b: moments of the second.
        pairs: feature of the first and of the second dictionary, each ``[pairs]``.
        statistics: ``pair_statistics`` of the same pairs over the same rows.
        strata: the partition that the sums were taken over.

    Returns:
        What the strata explain, in the order of the pairs.
    """
    of_a, of_b = pairs
    inverse = 1.0 / strata.counts
    between_aa, within_aa, eta2_a = _split_variance(sums_a, moments_a, inverse)
    between_bb, within_bb, eta2_b = _split_variance(sums_b, moments_b, inverse)
    pooled = np.zeros(len(of_a))
    for start in range(0, len(of_a), 4096):
        part = slice(start, start + 4096)
        pooled[part] = sums_a[of_a[part]].multiply(sums_b[of_b[part]]).tocsr() @ inverse
    between = pooled - moments_a.total[of_a] * moments_b.total[of_b] / strata.rows
    within = statistics.products - pooled
    total = np.sqrt((between_aa + within_aa)[of_a] * (between_bb + within_bb)[of_b])
    left = np.sqrt(within_aa[of_a] * within_bb[of_b])
    expected = np.divide(between, total, out=np.zeros_like(between), where=total > 0)
    partial = np.divide(within, left, out=np.full_like(within, np.nan), where=left > 0)
    return StratifiedPairs(
        expected=np.clip(expected, -1.0, 1.0),
        partial=np.clip(partial, -1.0, 1.0),
        eta2_a=eta2_a[of_a],
        eta2_b=eta2_b[of_b],
    )


def _split_variance(
    sums: sp.csr_array, moments: Moments, inverse: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum of squares between strata, that within, and their share η²."""
    pooled = sp.csr_array((sums.data**2, sums.indices, sums.indptr), shape=sums.shape) @ inverse
    variance = moments.spread**2 / moments.rows
    within = np.maximum(moments.squares - pooled, 0.0)
    within = np.where(within > _NOTHING_WITHIN * variance, np.minimum(within, variance), 0.0)
    between = variance - within
    eta2 = np.divide(between, variance, out=np.zeros_like(between), where=variance > 0)
    return between, within, eta2
