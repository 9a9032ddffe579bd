"""Exact Pearson correlation, co-firings and Jaccard of given pairs of features.

With n rows, and every sum over them,

    r(a, b) = (n Σab - Σa Σb) / √((n Σa² - (Σa)²) (n Σb² - (Σb)²))

Products and moments are summed in float64; the product of two float32 codes is exact there.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import EmptyProbe, ShapeError
from isogloss.universality.correlation.moments import Moments, moments, row_blocks, shape_of


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
    cosine: NDArray[np.float64]
    """``Σab / √(Σa² Σb²)``; 0 where one never fires."""


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

    Returns:
        The statistics, in the order of the pairs.

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
    for start, stop in row_blocks(len(of_a), block_pairs):
        both = a[of_a[start:stop]].multiply(b[of_b[start:stop]]).tocsr()
        products[start:stop] = both.sum(axis=1)
        cofires[start:stop] = np.diff(both.indptr)
    return _statistics(products, cofires, (moments(a), moments(b)), (of_a, of_b))


def _statistics(
    products: NDArray[np.float64],
    cofires: NDArray[np.int64],
    sums: tuple[Moments, Moments],
    of: tuple[NDArray[np.integer], NDArray[np.integer]],
) -> PairStatistics:
    """Return the statistics of pairs from Σab, the co-firings, and the sums of either side."""
    (a, b), (of_a, of_b) = sums, of
    fires_a, fires_b = a.fires[of_a], b.fires[of_b]
    either = fires_a + fires_b - cofires
    norms = np.sqrt(a.squares[of_a] * b.squares[of_b])
    return PairStatistics(
        rows=a.rows,
        r=pearson(products, a, b, of_a, of_b),
        cofires=cofires,
        fires_a=fires_a,
        fires_b=fires_b,
        jaccard=cofires / np.maximum(either, 1),
        products=products,
        cosine=np.divide(products, norms, out=np.zeros_like(products), where=norms > 0),
    )


def one_with_many(a: sp.csr_array, b: sp.csr_array) -> PairStatistics:
    """Compute the exact statistics of one feature with each of many: those of ``pair_statistics``.

    Args:
        a: codes of the one, ``[1, rows]``.
        b: codes of the many, feature-major ``[pairs, rows]``.

    Returns:
        The statistics, one pair a row of ``b``.

    Raises:
        ShapeError: the two cover a different number of rows.
        EmptyProbe: there is no row.
    """
    pairs, rows = shape_of(b)
    each = np.arange(pairs)
    first = np.zeros_like(each)
    _check_pairs(a, b, first, each)
    if rows == 0:
        raise EmptyProbe("0 shared rows; at least 1 is needed: compare on a larger probe")
    activation = np.zeros(rows)
    activation[a.indices] = a.data
    products = np.asarray(b @ activation, np.float64)
    fires = np.zeros(rows, np.int64)
    fires[a.indices] = 1
    pattern = sp.csr_array((np.ones(b.nnz, np.int64), b.indices, b.indptr), shape=b.shape)
    return _statistics(products, pattern @ fires, (moments(a), moments(b)), (first, each))


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

    Returns:
        ``[pairs]``, each in [-1, 1].
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
