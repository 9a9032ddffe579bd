"""The best partner of every feature of two dictionaries, among all features of the other.

A feature is silent on most rows, so the cross products of two dictionaries cost ``rows * k * k``
multiplications instead of ``rows * features_a * features_b``. The correlation is the one of
``pair_statistics``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import ShapeError
from isogloss.universality.correlation.moments import Moments, moments, shape_of

BLOCK_ENTRIES = 1 << 20
"""Cross products of one block at most: 4 M take 1.4 times the CPU time, 64 k 1.3 times (2.5 MiB of
L2 cache a core, 24,576 features)."""

_NOBODY = np.iinfo(np.int32).max


@dataclass(frozen=True, kw_only=True, eq=False)
class BestPartners:
    """For every feature of one dictionary: its best partner in the other, and the runner-up."""

    index: NDArray[np.int32]
    """Best partner, ``[features]``; -1 where no partner has r > 0. Ties go to the lowest index."""
    r: NDArray[np.float64]
    """Correlation with the best partner, ``[features]``; 0 where a feature has no partner."""
    second: NDArray[np.float64]
    """Correlation with the second best partner, ``[features]``; 0 where a feature has none."""

    @property
    def margin(self) -> NDArray[np.float64]:
        """``r - second``: by how much the best partner beats the second, ``[features]``."""
        return self.r - self.second


@dataclass(frozen=True, kw_only=True, eq=False)
class BestMatches:
    """Best partners in both directions, from one pass over the cross products."""

    a: BestPartners
    """For every feature of the first dictionary."""
    b: BestPartners
    """For every feature of the second dictionary."""

    def mutual(self, min_r: float = 0.0) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the pairs that are each other's best and have ``r > 0`` and ``r >= min_r``."""
        a = np.flatnonzero((self.a.index >= 0) & (self.a.r >= min_r)).astype(np.int32)
        b = self.a.index[a]
        both = self.b.index[b] == a
        return a[both], b[both]


def best_matches(
    a: sp.csr_array, b: sp.csr_array, *, block_entries: int = BLOCK_ENTRIES
) -> BestMatches:
    """Find, for every feature of each dictionary, its best and second best partner.

    Features of ``a`` are taken in blocks of about as many cross products; of a block only the best
    two of each row and the running best two of each column are kept, so that no
    ``[features_a, features_b]`` array exists. The result does not depend on ``block_entries``.

    Args:
        a: feature-major codes of the first dictionary, ``[features_a, rows]``.
        b: row-major codes of the second, ``[rows, features_b]``.
        block_entries: cross products of one block at most, which bounds the memory.

    Returns:
        Best partners of every feature of ``a`` and of every feature of ``b``.

    Raises:
        ShapeError: the two cover a different number of rows.
    """
    side_a = [_no_partner(0)]
    side_b = _no_partner(shape_of(b)[1])
    for start, r in correlation_blocks(a, b, block_entries=block_entries):
        side_a.append(_top_two(r))
        side_b = _better_of(side_b, _top_two(r.T.tocsr()), start)
    return BestMatches(a=_joined(side_a), b=side_b)


def correlation_blocks(
    a: sp.csr_array, b: sp.csr_array, *, block_entries: int = BLOCK_ENTRIES
) -> Iterator[tuple[int, sp.csr_array]]:
    """Yield the positive correlations of blocks of features with all features of the other.

    A block has as many features as give at most ``block_entries`` products, one at least. So the
    work follows the products there are, however wide the dictionaries.

    Args:
        a: feature-major codes of the first dictionary, ``[features_a, rows]``.
        b: row-major codes of the second, ``[rows, features_b]``.
        block_entries: stored correlations of one block at most, which bounds the memory.

    Yields:
        The block's first feature, and r > 0 of its features, ``[block, features_b]``.

    Raises:
        ShapeError: the two cover a different number of rows.
    """
    if shape_of(a)[1] != shape_of(b)[0]:
        raise ShapeError(
            f"codes cover {shape_of(a)[1]} and {shape_of(b)[0]} rows; both must hold the same "
            "segments of one probe"
        )
    moments_a, moments_b = moments(a), moments(b.T.tocsr())
    start = 0
    for stop in _block_ends(a, b, block_entries):
        yield start, _correlations(a[start:stop] @ b, moments_a, moments_b, start)
        start = stop


def _block_ends(a: sp.csr_array, b: sp.csr_array, entries: int) -> list[int]:
    """Return where blocks of features end that have at most so many products, ascending."""
    fires = sp.csr_array((np.ones(a.nnz), a.indices, a.indptr), shape=a.shape)
    products = np.minimum(fires @ np.diff(b.indptr), shape_of(b)[1])
    until = np.cumsum(products)
    ends, before = [0], 0.0
    while ends[-1] < len(until):
        stop = int(np.searchsorted(until, before + entries, side="right"))
        ends.append(max(stop, ends[-1] + 1))
        before = until[ends[-1] - 1]
    return ends[1:]


def _correlations(
    products: sp.csr_array, moments_a: Moments, moments_b: Moments, start: int
) -> sp.csr_array:
    """Turn a block of cross products into correlations, keeping those above zero."""
    lengths = np.diff(products.indptr)
    spread_a = moments_a.spread[start : start + shape_of(products)[0]]
    spread_b = moments_b.spread
    inverse_a = np.divide(1.0, spread_a, out=np.zeros_like(spread_a), where=spread_a > 0)
    inverse_b = np.divide(1.0, spread_b, out=np.zeros_like(spread_b), where=spread_b > 0)
    total_a = moments_a.total[start : start + shape_of(products)[0]]
    columns = products.indices
    r = products.data * moments_a.rows
    r -= np.repeat(total_a, lengths) * moments_b.total[columns]
    r *= np.repeat(inverse_a, lengths)
    r *= inverse_b[columns]
    keep = r > 0
    kept = np.concatenate([[0], np.cumsum(keep)])[products.indptr]
    return sp.csr_array((np.minimum(r[keep], 1.0), columns[keep], kept), shape=products.shape)


def _no_partner(features: int) -> BestPartners:
    return BestPartners(
        index=np.full(features, -1, dtype=np.int32),
        r=np.zeros(features),
        second=np.zeros(features),
    )


def _top_two(r: sp.csr_array) -> BestPartners:
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


def _better_of(running: BestPartners, block: BestPartners, start: int) -> BestPartners:
    """Merge the best two of a later block (its partners count from ``start``) into the running."""
    wins = block.r > running.r
    loser = np.where(wins, running.r, block.r)
    second = np.where(wins, block.second, running.second)
    return BestPartners(
        index=np.where(wins, block.index + np.int32(start), running.index).astype(np.int32),
        r=np.where(wins, block.r, running.r),
        second=np.maximum(loser, second),
    )


def _joined(parts: list[BestPartners]) -> BestPartners:
    return BestPartners(
        index=np.concatenate([part.index for part in parts]),
        r=np.concatenate([part.r for part in parts]),
        second=np.concatenate([part.second for part in parts]),
    )
