"""One-to-one assignment: every feature at most one partner, so that the sum of scores is largest.

Paulo and Belrose (arXiv 2501.16615) and Song et al. (arXiv 2505.20254) match dictionaries so, by
decoder cosine; the number of features may differ. Where few features are on either side all scores
are taken (Jonker and Volgenant, by ``scipy.optimize.linear_sum_assignment``), else only the
candidates given, which makes the work follow their number (``min_weight_full_bipartite_matching``).
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from isogloss.errors import InvalidInput
from isogloss.universality.correlation.moments import shape_of

DENSE_FEATURES = 8192
"""At most so many features on the larger side: all scores are held, 512 MB in float64."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Assignment:
    """Pairs in which no feature is twice, ascending by the first; arrays ``[pairs]``."""

    of_a: NDArray[np.int64]
    """Feature of the first dictionary."""
    of_b: NDArray[np.int64]
    """Feature of the second."""
    score: NDArray[np.float64]
    """Score of the pair, above 0."""


def assign(scores: sp.csr_array, *, dense_features: int = DENSE_FEATURES) -> Assignment:
    """Choose pairs, no feature twice, whose scores have the largest sum.

    Args:
        scores: above 0 and at most 1 where stored, ``[features_a, features_b]``; what is not stored
            is no candidate. Correlations, or cosines.
        dense_features: larger sides are matched on the stored scores alone, without a dense array.
            Both ways give the same sum.

    Returns:
        The pairs. A feature of which no candidate is left is in none.

    Raises:
        InvalidInput: a score is not in (0, 1].
    """
    if scores.nnz and not (scores.data.min() > 0 and scores.data.max() <= 1):
        found = f"[{scores.data.min():.3g}, {scores.data.max():.3g}]"
        raise InvalidInput(f"scores lie in {found}, wanted (0, 1]: leave others out")
    rows, columns = shape_of(scores)
    if not scores.nnz:
        empty = np.zeros(0, np.int64)
        return Assignment(of_a=empty, of_b=empty, score=np.zeros(0))
    if max(rows, columns) <= dense_features:
        of_a, of_b = linear_sum_assignment(scores.toarray(), maximize=True)
    else:
        # each feature may stay alone, with a place of its own: a full matching always exists. A
        # score s costs 2 - s, above 0 since a cost of 0 would be no edge; staying alone costs 2
        alone = sp.diags_array(np.full(rows, 2.0), format="csr")
        costs = sp.csr_array((2.0 - scores.data, scores.indices, scores.indptr), scores.shape)
        of_a, of_b = min_weight_full_bipartite_matching(sp.hstack([costs, alone], format="csr"))
        of_a, of_b = of_a[of_b < columns], of_b[of_b < columns]
        order = np.argsort(of_a, kind="stable")
        of_a, of_b = of_a[order], of_b[order]
    score = _at(scores, of_a.astype(np.int64), of_b.astype(np.int64))
    taken = score > 0
    return Assignment(
        of_a=of_a[taken].astype(np.int64), of_b=of_b[taken].astype(np.int64), score=score[taken]
    )


def _at(
    matrix: sp.csr_array, row: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return stored entries at given places, 0 where nothing is stored, ``[places]``."""
    width = shape_of(matrix)[1]
    stored = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr)) * width
    stored = stored + matrix.indices
    order = np.argsort(stored, kind="stable")
    wanted = row * width + column
    at = np.minimum(np.searchsorted(stored, wanted, sorter=order), len(stored) - 1)
    found = order[at]
    return np.where(stored[found] == wanted, matrix.data[found], 0.0)
