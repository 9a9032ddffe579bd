"""What a stratum (token, position, document) explains of a correlation, in closed form.

Write s for the stratum of a row, n_s for its rows, and sums over the rows of a stratum as Σ_s a.
A row that is alone in its stratum explains itself, and with few rows in a stratum a part of them
does: plain shares of variance between strata are too high by about (strata - 1) / (rows - 1). So
what strata explain is taken from products of *different* rows alone. On the rows that are not alone
(m of them, their sums Σ' and centred products T),

    between strata    B  = Σ_s ((Σ_s a)(Σ_s b) - Σ_s ab) / (n_s - 1) - Σ'a Σ'b / m
    expected r        B / √(T(a, a) T(b, b)), the mean r when each row takes another of its stratum
    explained share   η²(a) = B(a, a) / T(a, a)

    within strata     C  = Σab - Σ_s (Σ_s a)(Σ_s b) / n_s
    partial           C(a, b) / √(C(a, a) C(b, b)) = corr(a - E[a|s], b - E[b|s])

η² is Kelley's idea (epsilon squared, 1935) with the one change that the noise of each stratum is
estimated there: the usual adjustment takes it to be equal in all strata, which sparse codes are far
from. It may be slightly negative. The centred codes a - E[a|s] are dense and never formed.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.universality.correlation.moments import row_blocks, shape_of

KEYS = ("none", "token", "position", "document", "token_position")
"""Keys of the stratified null: what a shuffle of the rows keeps in place."""

LEAST_MOVABLE = 20
"""A feature that fires on fewer rows that are not alone in their stratum has no η² and no null."""

_EXACT_POSITIONS = 32
"""Positions below this are strata of their own; above, eight strata an octave."""

_NOTHING_WITHIN = 1e-9
"""Share of a feature's variance below which nothing is left within the strata."""

_BLOCK_PAIRS = 4096


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

    @property
    def bias(self) -> float:
        """How much of any feature's variance strata would seem to explain by chance alone.

        (strata - 1) / (rows - 1): what products of a row with itself add to a plain share.
        """
        return (self.size - 1) / max(self.rows - 1, 1)

    @classmethod
    def of(cls, key: str, values: NDArray[np.integer]) -> "Strata":
        """Partition rows by equal values.

        Args:
            key: one of ``KEYS``; with ``"none"`` the values do not matter and all rows are one
                stratum, with ``"position"`` they are merged as in ``position_bins``.
            values: token hash, position, document, or ``joint_values`` of each row, ``[rows]``.

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

    def exchange(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return a random permutation in which each row takes another row of its stratum.

        Within each stratum it is a uniform random cycle: every other row is equally likely, and no
        row stays where it is, unless it is alone.
        """
        order = np.lexsort((generator.random(self.rows), self.label))
        following = np.arange(1, self.rows + 1)
        last = np.cumsum(self.counts) - 1
        following[last] = last + 1 - self.counts
        permutation = np.empty(self.rows, dtype=np.int64)
        permutation[order] = order[following]
        return permutation

    def take(self, rows: NDArray[np.integer]) -> "Strata":
        """Return the strata of some of the rows, in the order given."""
        _, label, counts = np.unique(self.label[rows], return_inverse=True, return_counts=True)
        return Strata(key=self.key, label=label.astype(np.int64), counts=counts.astype(np.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class StratifiedPairs:
    """How much of the correlation of given pairs the strata explain; arrays are ``[pairs]``."""

    expected: NDArray[np.float64]
    """Mean r when each row takes another of its stratum: the pair's null, in closed form. NaN where
    a feature fires on fewer than ``LEAST_MOVABLE`` rows that are not alone in their stratum."""
    partial: NDArray[np.float64]
    """Correlation within strata; NaN where a feature does not vary within any stratum."""
    eta2_a: NDArray[np.float64]
    """η²: share of the first feature's variance that the strata explain; NaN as ``expected``."""
    eta2_b: NDArray[np.float64]
    """Share of the second feature's variance that the strata explain; NaN as ``expected``."""


def position_bins(position: NDArray[np.integer]) -> NDArray[np.int64]:
    """Merge positions: each below 32 for itself, from there on eight bins an octave.

    Late positions are few (most documents are shorter); alone they would be strata of one row.
    """
    exact = position.astype(np.int64)
    octave = np.floor(8 * np.log2(np.maximum(exact, 1) / _EXACT_POSITIONS)).astype(np.int64)
    return np.where(exact < _EXACT_POSITIONS, exact, _EXACT_POSITIONS + octave)


def joint_values(token: NDArray[np.integer], position: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number rows by token and position together, positions merged to octaves: 0, 1, 2-3, 4-7, ...

    Args:
        token: token hash of each row, ``[rows]``.
        position: position of each row in its document, ``[rows]``, 0 or more.

    Returns:
        ``[rows]``; equal where token and octave are.
    """
    # frexp gives the exponent e with 2^(e-1) <= position < 2^e, and 0 for position 0
    octave = np.frexp(position.astype(np.float64))[1].astype(np.int64)
    label = np.unique(token, return_inverse=True)[1].astype(np.int64)
    return label * (int(octave.max(initial=0)) + 1) + octave


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
    a: sp.csr_array,
    b: sp.csr_array,
    feature_a: NDArray[np.integer],
    feature_b: NDArray[np.integer],
    strata: Strata,
) -> StratifiedPairs:
    """Say what strata explain of the correlation of given pairs.

    Args:
        a: feature-major codes of the first dictionary, ``[features_a, rows]``.
        b: feature-major codes of the second, ``[features_b, rows]``.
        feature_a: rows of ``a``, ``[pairs]``.
        feature_b: rows of ``b``, ``[pairs]``.
        strata: partition of the same rows.

    Returns:
        What the strata explain, in the order of the pairs.
    """
    used_a, of_a = np.unique(feature_a, return_inverse=True)
    used_b, of_b = np.unique(feature_b, return_inverse=True)
    weights = _Weights.of(strata)
    one, other = (weights.split(_rows(*of), strata) for of in ((a, used_a), (b, used_b)))
    expected, partial = np.full(len(of_a), np.nan), np.full(len(of_a), np.nan)
    for start, stop in row_blocks(len(of_a), _BLOCK_PAIRS):
        part, at_a, at_b = slice(start, stop), of_a[start:stop], of_b[start:stop]
        products = _rows(one.codes, at_a).multiply(_rows(other.codes, at_b)).tocsr()
        pooled = _rows(one.sums, at_a).multiply(_rows(other.sums, at_b)).tocsr()
        between = weights.between(products, pooled) - one.total[at_a] * other.total[at_b] / max(
            weights.kept, 1
        )
        within = products.sum(axis=1) - pooled @ weights.inverse
        total = np.sqrt(one.squares[at_a] * other.squares[at_b])
        left = np.sqrt(one.within[at_a] * other.within[at_b])
        np.divide(between, total, out=expected[part], where=np.nan_to_num(total) > 0)
        np.divide(within, left, out=partial[part], where=left > 0)
    return StratifiedPairs(
        expected=np.clip(expected, -1.0, 1.0),
        partial=np.clip(partial, -1.0, 1.0),
        eta2_a=one.eta2[of_a],
        eta2_b=other.eta2[of_b],
    )


def _rows(matrix: sp.csr_array, wanted: NDArray[np.integer]) -> sp.csr_array:
    """Return rows of a matrix; the matrix itself, which takes no time, where all are wanted."""
    rows = shape_of(matrix)[0]
    if len(wanted) == rows and np.array_equal(wanted, np.arange(rows)):
        return matrix
    return matrix[wanted]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Split:
    """Features with the sums that every pair needs; sums over the rows that are not alone."""

    codes: sp.csr_array
    sums: sp.csr_array
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    """T(a, a); NaN where a feature fires on too few of these rows."""
    within: NDArray[np.float64]
    """C(a, a); 0 where nothing is left."""
    eta2: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Weights:
    """Numbers of a partition by which sums are weighted."""

    kept: int
    """m: rows that are not alone."""
    is_kept: NDArray[np.float64]
    """1 for those rows, ``[rows]``."""
    inverse: NDArray[np.float64]
    """1 / n_s, ``[size]``."""
    others: NDArray[np.float64]
    """1 / (n_s - 1), 0 for a stratum of one row, ``[size]``."""
    others_of_row: NDArray[np.float64]
    """The same of each row's stratum, ``[rows]``."""

    @classmethod
    def of(cls, strata: Strata) -> "_Weights":
        several = strata.counts > 1
        others = np.where(several, 1 / np.maximum(strata.counts - 1, 1), 0.0)
        return cls(
            kept=int(strata.counts[several].sum()),
            is_kept=several[strata.label].astype(np.float64),
            inverse=1 / np.maximum(strata.counts, 1),
            others=others,
            others_of_row=others[strata.label],
        )

    def between(self, products: sp.csr_array, pooled: sp.csr_array) -> NDArray[np.float64]:
        """Return Σ_s ((Σ_s a)(Σ_s b) - Σ_s ab) / (n_s - 1)."""
        return np.asarray(pooled @ self.others - products @ self.others_of_row)

    def split(self, codes: sp.csr_array, strata: Strata) -> _Split:
        """Sum each feature by stratum, and split its variance."""
        sums = stratum_sums(codes, strata)
        squared, pooled = _squared(codes), _squared(sums)
        total = np.asarray(codes @ self.is_kept)
        mean = total / max(self.kept, 1)
        squares = np.asarray(squared @ self.is_kept) - total * mean
        fires = _ones(codes) @ self.is_kept
        known = (fires >= LEAST_MOVABLE) & (squares > _NOTHING_WITHIN * (squares + total * mean))
        squares = np.where(known, squares, np.nan)
        everything = np.asarray(squared.sum(axis=1))
        within = everything - pooled @ self.inverse
        variance = everything - np.asarray(codes.sum(axis=1)) ** 2 / max(strata.rows, 1)
        return _Split(
            codes=codes,
            sums=sums,
            total=total,
            squares=squares,
            within=np.where(within > _NOTHING_WITHIN * variance, within, 0.0),
            eta2=(self.between(squared, pooled) - total * mean) / squares,
        )


def _squared(matrix: sp.csr_array) -> sp.csr_array:
    return sp.csr_array((matrix.data**2, matrix.indices, matrix.indptr), shape=matrix.shape)


def _ones(matrix: sp.csr_array) -> sp.csr_array:
    return sp.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
