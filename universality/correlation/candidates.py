"""The strongest partners of every feature of two dictionaries, several of each."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.universality.correlation.best_matches import BLOCK_ENTRIES, correlation_blocks
from isogloss.universality.correlation.moments import shape_of


def best_candidates(
    a: sp.csr_array, b: sp.csr_array, count: int, *, block_entries: int = BLOCK_ENTRIES
) -> sp.csr_array:
    """Return the correlations that are among the strongest of either of their features.

    Args:
        a: feature-major codes of the first dictionary, ``[features_a, rows]``.
        b: row-major codes of the second, ``[rows, features_b]``.
        count: how many partners of each feature are kept, of those with r > 0. Ties go to the
            lowest index.
        block_entries: as in ``best_matches``.

    Returns:
        r > 0 at the pairs kept, ``[features_a, features_b]``, sparse.
    """
    shape = (shape_of(a)[0], shape_of(b)[1])
    of_a, of_b = sp.csr_array(shape), sp.csr_array((shape[1], shape[0]))
    for start, r in correlation_blocks(a, b, block_entries=block_entries):
        of_a = of_a + _placed(_strongest(r, count), start, shape)
        # of a column only the strongest so far are kept, so memory does not grow with the blocks
        of_b = _strongest(of_b + _placed(r, start, shape).T.tocsr(), count)
    return sp.csr_array(of_a.maximum(of_b.T.tocsr()))


def strongest_of_row(matrix: sp.csr_array, count: int) -> NDArray[np.int64]:
    """Return the columns of the largest entries of each row, ``[rows, count]``; -1 where fewer."""
    order, rank = _ranked(matrix)
    found = np.full((shape_of(matrix)[0], count), -1, np.int64)
    kept = rank < count
    row = np.repeat(np.arange(len(found)), np.diff(matrix.indptr))
    found[row[kept], rank[kept]] = matrix.indices[order][kept]
    return found


def _strongest(matrix: sp.csr_array, count: int) -> sp.csr_array:
    """Return the matrix without what is not among the largest of its row."""
    order, rank = _ranked(matrix)
    keep = np.zeros(matrix.nnz, np.bool_)
    keep[order[rank < count]] = True
    kept = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return sp.csr_array((matrix.data[keep], matrix.indices[keep], kept), shape=matrix.shape)


def _ranked(matrix: sp.csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the entries in order of row and falling size, and the rank of each in its row."""
    lengths = np.diff(matrix.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    values = np.asarray(matrix.data, np.float64)
    order = np.lexsort((matrix.indices, -values, row))
    rank = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], lengths)
    return order.astype(np.int64), rank.astype(np.int64)


def _placed(block: sp.csr_array, start: int, shape: tuple[int, int]) -> sp.csr_array:
    """Return a block of rows at its place in a matrix."""
    ends = np.full(shape[0] + 1, block.nnz, np.int64)
    ends[: start + 1] = 0
    ends[start : start + len(block.indptr)] = block.indptr
    return sp.csr_array((block.data, block.indices, ends), shape=shape)
