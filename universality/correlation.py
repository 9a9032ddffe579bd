"""Exact Pearson correlation between the features of two dictionaries, from their sparse codes.

A feature is silent on most rows, so the cross products of two dictionaries cost ``rows * k * k``
multiplications instead of ``rows * features_a * features_b``. With n rows, and every sum over them,

    r(a, b) = (n Σab - Σa Σb) / √((n Σa² - (Σa)²) (n Σb² - (Σb)²))

Products and moments are summed in float64; the product of two float32 codes is exact there.

Codes must not be negative. Then two features that never fire together have Σab = 0 and so r <= 0,
and the stored cross products hold every candidate with r > 0. Signed codes are refused, because for
them this does not hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import EmptyProbe, InvalidInput, ShapeError

BLOCK_ENTRIES = 1 << 22
"""Cells of one block of cross products at most (16 bytes each while it is reduced)."""

_CONSTANT = 1e-12
"""A feature whose variance is below this share of its mean square is constant: r = 0."""

_NOBODY = np.iinfo(np.int32).max


@runtime_checkable
class SparseRows(Protocol):
    """What the store hands out as ``Csr``: compressed sparse rows."""

    @property
    def indptr(self) -> NDArray[np.int64]:
        """Where each row begins in ``indices`` and ``values``, ``[rows + 1]``."""
        ...

    @property
    def indices(self) -> NDArray[np.int32]:
        """Column of each entry."""
        ...

    @property
    def values(self) -> NDArray[np.float32]:
        """Activation of each entry."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Sums of every feature over the same rows."""

    rows: int
    """How many rows were summed."""
    total: NDArray[np.float64]
    """Σa, ``[features]``."""
    squares: NDArray[np.float64]
    """Σa², ``[features]``."""
    fires: NDArray[np.int64]
    """Rows on which the feature is above zero, ``[features]``."""

    @property
    def spread(self) -> NDArray[np.float64]:
        """√(n Σa² - (Σa)²), ``[features]``; 0 where the feature is constant."""
        mean_square = self.rows * self.squares
        variance = mean_square - self.total**2
        return np.sqrt(np.where(variance > _CONSTANT * mean_square, variance, 0.0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest:
    """For every feature of one dictionary: its best partner in the other, and the runner-up."""

    index: NDArray[np.int32]
    """Best partner, ``[features]``; -1 where no partner has r > 0. Ties go to the lowest index."""
    r: NDArray[np.float64]
    """Correlation with the best partner, ``[features]``; 0 where there is none."""
    second: NDArray[np.float64]
    """Correlation with the runner-up, ``[features]``; 0 where there is none."""

    @property
    def margin(self) -> NDArray[np.float64]:
        """``r - second``: how clearly the best partner is the best, ``[features]``."""
        return self.r - self.second


@dataclass(frozen=True, kw_only=True, eq=False)
class BestMatches:
    """Nearest features in both directions, from one pass over the cross products."""

    a: Nearest
    """For every feature of the first dictionary."""
    b: Nearest
    """For every feature of the second dictionary."""

    def mutual(self, min_r: float = 0.0) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the pairs that are each other's best and have ``r > 0`` and ``r >= min_r``."""
        a = np.flatnonzero((self.a.index >= 0) & (self.a.r >= min_r)).astype(np.int32)
        b = self.a.index[a]
        both = self.b.index[b] == a
        return a[both], b[both]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairStatistics:
    """Exact statistics of given pairs of features, each array ``[pairs]``."""

    rows: int
    """N: rows present in both dictionaries."""
    r: NDArray[np.float64]
    """Pearson correlation; 0 where a feature is constant."""
    cofires: NDArray[np.int64]
    """Rows on which both fire."""
    fires_a: NDArray[np.int64]
    """Rows on which the first fires."""
    fires_b: NDArray[np.int64]
    """Rows on which the second fires."""
    jaccard: NDArray[np.float64]
    """``cofires / (fires_a + fires_b - cofires)``; 0 where neither fires."""
    products: NDArray[np.float64]
    """Σab."""


def shape_of(matrix: sp.csr_array) -> tuple[int, int]:
    """Return rows and columns of a sparse matrix, as the integers that they are."""
    rows, columns = matrix.shape  # pyright: ignore[reportGeneralTypeIssues]  # scipy: "or None"
    return int(rows), int(columns)


def codes_matrix(codes: SparseRows, columns: int) -> sp.csr_array:
    """Return sparse codes as a float64 matrix that the functions here take.

    Row-major codes (``CodesFile.row_slice``) give ``[rows, features]``, feature-major codes
    (``CodesFile.feature_slice``) give ``[features, rows]``.

    Args:
        codes: compressed sparse rows.
        columns: number of columns.

    Raises:
        InvalidInput: a value is negative or not finite.
        ShapeError: a column index is outside ``[0, columns)``.
    """
    values = np.asarray(codes.values, dtype=np.float64)
    if values.size and not (np.isfinite(values).all() and values.min() >= 0):
        raise InvalidInput(
            "codes hold a negative or non-finite activation; matching needs activations >= 0 "
            "(features that never fire together are taken to have r <= 0): encode with a "
            "dictionary whose codes pass through ReLU or TopK"
        )
    indices = np.asarray(codes.indices)
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < columns:
        found = f"[{indices.min()}, {indices.max()}]"
        raise ShapeError(f"column indices {found} must lie in [0, {columns}); re-encode the codes")
    shape = (len(codes.indptr) - 1, columns)
    matrix = sp.csr_array((values, indices, np.asarray(codes.indptr)), shape=shape, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def moments(features: sp.csr_array) -> Moments:
    """Sum every feature over its rows, in float64.

    Args:
        features: feature-major codes, ``[features, rows]``.
    """
    ones = np.ones(shape_of(features)[1])
    return Moments(
        rows=shape_of(features)[1],
        total=np.asarray(features @ ones),
        squares=np.asarray(_squared(features) @ ones),
        fires=np.diff(features.indptr).astype(np.int64),
    )


def best_matches(
    a: sp.csr_array, b: sp.csr_array, *, block_entries: int = BLOCK_ENTRIES
) -> BestMatches:
    """Find, for every feature of each dictionary, its best and second best partner.

    Features of ``a`` are taken in blocks; of a block's cross products only the best two of each
    row and the running best two of each column are kept, so that no ``[features_a, features_b]``
    array exists. The result does not depend on ``block_entries``.

    Args:
        a: feature-major codes of the first dictionary, ``[features_a, rows]``.
        b: row-major codes of the second, ``[rows, features_b]``.
        block_entries: cells of one block at most, which bounds the memory.

    Raises:
        ShapeError: the two cover a different number of rows.
    """
    if shape_of(a)[1] != shape_of(b)[0]:
        raise ShapeError(
            f"codes cover {shape_of(a)[1]} and {shape_of(b)[0]} rows; both must hold the same "
            "segments of one probe"
        )
    moments_a, moments_b = moments(a), moments(b.T.tocsr())
    features_b = shape_of(b)[1]
    side_a = [_no_partner(0)]
    side_b = _no_partner(features_b)
    for start, stop in _blocks(shape_of(a)[0], max(1, block_entries // max(1, features_b))):
        r = _correlations(a[start:stop] @ b, moments_a, moments_b, start)
        side_a.append(_top_two(r))
        side_b = _better_of(side_b, _top_two(r.T.tocsr()), start)
    return BestMatches(a=_joined(side_a), b=side_b)


def pair_statistics(
    a: sp.csr_array,
    b: sp.csr_array,
    feature_a: NDArray[np.integer],
    feature_b: NDArray[np.integer],
    *,
    shared: NDArray[np.bool_] | None = None,
    block_pairs: int = 4096,
) -> PairStatistics:
    """Compute the exact statistics of given pairs.

    Args:
        a: feature-major codes of the first dictionary, ``[features_a, rows]``.
        b: feature-major codes of the second, ``[features_b, rows]``.
        feature_a: rows of ``a``, ``[pairs]``.
        feature_b: rows of ``b``, ``[pairs]``.
        shared: rows that both dictionaries have, ``[rows]``; where a segment is missing in one
            model it counts in neither sum. None: all of them.
        block_pairs: pairs held in memory at once.

    Raises:
        ShapeError: arrays differ in length.
        EmptyProbe: no row is shared.
    """
    _check_pairs(a, b, feature_a, feature_b)
    if shared is not None:
        if shared.shape != (shape_of(a)[1],):
            found, wanted = shared.shape, (shape_of(a)[1],)
            raise ShapeError(f"shared {found} must have one entry a row: {wanted}")
        a, b = a[:, np.flatnonzero(shared)], b[:, np.flatnonzero(shared)]
    if shape_of(a)[1] == 0:
        raise EmptyProbe("0 shared rows; at least 1 is needed: compare on a larger probe")
    used_a, of_a = np.unique(feature_a, return_inverse=True)
    used_b, of_b = np.unique(feature_b, return_inverse=True)
    a, b = a[used_a], b[used_b]
    products = np.zeros(len(of_a))
    cofires = np.zeros(len(of_a), dtype=np.int64)
    for start, stop in _blocks(len(of_a), block_pairs):
        both = a[of_a[start:stop]].multiply(b[of_b[start:stop]]).tocsr()
        products[start:stop] = both.sum(axis=1)
        cofires[start:stop] = np.diff(both.indptr)
    moments_a, moments_b = moments(a), moments(b)
    fires_a, fires_b = moments_a.fires[of_a], moments_b.fires[of_b]
    either = fires_a + fires_b - cofires
    return PairStatistics(
        rows=shape_of(a)[1],
        r=pearson(products, moments_a, moments_b, of_a, of_b),
        cofires=cofires,
        fires_a=fires_a,
        fires_b=fires_b,
        jaccard=cofires / np.maximum(either, 1),
        products=products,
    )


def pearson(
    products: NDArray[np.float64],
    moments_a: Moments,
    moments_b: Moments,
    of_a: NDArray[np.integer],
    of_b: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Return r from Σab and the moments; 0 where a feature is constant.

    Args:
        products: Σab of each pair, ``[pairs]``.
        moments_a: moments of the first dictionary.
        moments_b: moments of the second.
        of_a: index into ``moments_a`` of each pair.
        of_b: index into ``moments_b`` of each pair.
    """
    covariance = moments_a.rows * products - moments_a.total[of_a] * moments_b.total[of_b]
    scale = moments_a.spread[of_a] * moments_b.spread[of_b]
    r = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    return np.clip(r, -1.0, 1.0)


def _check_pairs(
    a: sp.csr_array,
    b: sp.csr_array,
    feature_a: NDArray[np.integer],
    feature_b: NDArray[np.integer],
) -> None:
    if shape_of(a)[1] != shape_of(b)[1]:
        raise ShapeError(
            f"codes cover {shape_of(a)[1]} and {shape_of(b)[1]} rows; both must hold the same "
            "segments of one probe"
        )
    if feature_a.shape != feature_b.shape:
        raise ShapeError(
            f"feature_a {feature_a.shape} and feature_b {feature_b.shape} must match: "
            "one entry of each a pair"
        )


def _squared(matrix: sp.csr_array) -> sp.csr_array:
    return sp.csr_array((matrix.data**2, matrix.indices, matrix.indptr), shape=matrix.shape)


def _blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, size):
        yield start, min(start + size, count)


def _correlations(
    products: sp.csr_array, moments_a: Moments, moments_b: Moments, start: int
) -> sp.csr_array:
    """Turn a block of cross products into correlations, keeping those above zero."""
    rows = np.repeat(np.arange(shape_of(products)[0]), np.diff(products.indptr))
    spread_a = moments_a.spread[start : start + shape_of(products)[0]]
    spread_b = moments_b.spread
    inverse_a = np.divide(1.0, spread_a, out=np.zeros_like(spread_a), where=spread_a > 0)
    inverse_b = np.divide(1.0, spread_b, out=np.zeros_like(spread_b), where=spread_b > 0)
    total_a = moments_a.total[start : start + shape_of(products)[0]]
    columns = products.indices
    r = products.data * moments_a.rows
    r -= total_a[rows] * moments_b.total[columns]
    r *= inverse_a[rows]
    r *= inverse_b[columns]
    keep = r > 0
    kept = np.concatenate([[0], np.cumsum(keep)])[products.indptr]
    return sp.csr_array((np.minimum(r[keep], 1.0), columns[keep], kept), shape=products.shape)


def _no_partner(features: int) -> Nearest:
    return Nearest(
        index=np.full(features, -1, dtype=np.int32),
        r=np.zeros(features),
        second=np.zeros(features),
    )


def _top_two(r: sp.csr_array) -> Nearest:
    """Return the two largest entries of every row of positive correlations."""
    found = _no_partner(shape_of(r)[0])
    lengths = np.diff(r.indptr)
    filled = np.flatnonzero(lengths)
    if not filled.size:
        return found
    starts, row = r.indptr[filled], np.repeat(np.arange(filled.size), lengths[filled])
    best = np.maximum.reduceat(r.data, starts)
    index = np.minimum.reduceat(np.where(r.data == best[row], r.indices, _NOBODY), starts)
    rest = np.where(r.indices == index[row], 0.0, r.data)
    found.index[filled] = index
    found.r[filled] = best
    found.second[filled] = np.maximum.reduceat(rest, starts)
    return found


def _better_of(running: Nearest, block: Nearest, start: int) -> Nearest:
    """Merge the best two of a later block (its partners count from ``start``) into the running."""
    wins = block.r > running.r
    loser = np.where(wins, running.r, block.r)
    second = np.where(wins, block.second, running.second)
    return Nearest(
        index=np.where(wins, block.index + np.int32(start), running.index).astype(np.int32),
        r=np.where(wins, block.r, running.r),
        second=np.maximum(loser, second),
    )


def _joined(parts: list[Nearest]) -> Nearest:
    return Nearest(
        index=np.concatenate([part.index for part in parts]),
        r=np.concatenate([part.r for part in parts]),
        second=np.concatenate([part.second for part in parts]),
    )
