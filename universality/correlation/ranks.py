"""How many features correlate more with a feature than its partner does."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.universality.correlation.best_matches import BLOCK_ENTRIES, correlation_blocks
from isogloss.universality.correlation.moments import shape_of

_TIE = 1e-12
"""Correlations that differ by less are equal: they are summed in another order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairRanks:
    """Ranks of the partners of given pairs, from 1; arrays ``[pairs]``."""

    of_a: NDArray[np.int32]
    """Rank of the pair's ``a`` among all features of the first dictionary, as a partner of ``b``.
    """
    of_b: NDArray[np.int32]
    """Rank of the pair's ``b`` among all features of the second, as a partner of ``a``."""


def pair_ranks(
    a: sp.csr_array,
    b: sp.csr_array,
    feature_a: NDArray[np.integer],
    feature_b: NDArray[np.integer],
    r: NDArray[np.float64],
    *,
    block_entries: int = BLOCK_ENTRIES,
) -> PairRanks:
    """Rank the partners of pairs in which no feature occurs twice.

    The rank is 1 and the number of features with a higher positive correlation; ties share a rank.
    A pair with r of 0 or less ranks behind all positive ones.

    Args:
        a: feature-major codes of the first dictionary, ``[features_a, rows]``.
        b: row-major codes of the second, ``[rows, features_b]``.
        feature_a: rows of ``a``, ``[pairs]``, each at most once.
        feature_b: columns of ``b``, ``[pairs]``, each at most once.
        r: correlation of each pair over the same rows, ``[pairs]``.
        block_entries: as in ``best_matches``.

    Returns:
        The ranks, in the order of the pairs.
    """
    bar, pairs = r + _TIE, len(r)
    of_column = np.full(shape_of(b)[1], np.inf)
    of_column[feature_b] = bar
    higher_b, higher_a = np.zeros(pairs, np.int64), np.zeros(len(of_column), np.int64)
    # the first features of pairs with all of b, and the others with the second features alone: the
    # correlations of two features of which neither is in a pair are not needed
    for start, block in correlation_blocks(a[feature_a], b, block_entries=block_entries):
        rows = shape_of(block)[0]
        row = np.repeat(np.arange(rows), np.diff(block.indptr))
        higher = block.data > bar[start + row]
        higher_b[start : start + rows] += np.bincount(row[higher], minlength=rows)
        higher = block.data > of_column[block.indices]
        higher_a += np.bincount(block.indices[higher], minlength=len(higher_a))
    others = np.setdiff1d(np.arange(shape_of(a)[0]), feature_a)
    of_pair = higher_a[feature_b]
    for _, block in correlation_blocks(a[others], b[:, feature_b], block_entries=block_entries):
        higher = block.data > bar[block.indices]
        of_pair += np.bincount(block.indices[higher], minlength=pairs)
    return PairRanks(of_a=(1 + of_pair).astype(np.int32), of_b=(1 + higher_b).astype(np.int32))
