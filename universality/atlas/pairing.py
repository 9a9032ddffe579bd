"""The query's dictionary and a target: candidates, and whether a hit prefers the query too.

Candidates come from one of two places. Where codes are in memory and the query fires on few enough
segments, its correlation with *every* feature of the target is taken exactly, from the codes of
those segments: less work than a search of the atlas, which reads all signatures. Else the atlas
proposes. ``docs/design/028-exact-neighbours.md`` has the costs.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.universality.atlas.atlas import Atlas
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.correlation.moments import Moments
from isogloss.universality.correlation.one_to_all import sum_products
from isogloss.universality.correlation.pair_statistics import one_with_many, pearson

CHEAP = 12
"""Products a feature of the dictionary, up to which comparing with all costs less than a search."""

_SPARE = 4
"""Candidates beyond those asked for: the runner-up, and what rounding may exchange."""

_TIE = 1e-12
"""Correlations that differ by less are equal: they are summed in another order."""

FiringRows = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Segments on which a feature fires, of those that both dictionaries have, and how strongly."""


@dataclass(frozen=True)
class Pairing:
    """The query's dictionary and a target, on the segments that both have."""

    query: ProbedDictionary
    target: ProbedDictionary

    @cached_property
    def shared(self) -> NDArray[np.bool_] | None:
        """Mask of the segments that both have; None where that is all of them."""
        both = self.query.present & self.target.present
        return None if both.all() else both

    @property
    def rows(self) -> int:
        """How many segments both have."""
        return self.query.codes.rows if self.shared is None else int(self.shared.sum())

    def firings(self, codes: sp.csr_array, feature: int = 0) -> FiringRows:
        """Return where a feature fires, of the segments that both have.

        Args:
            codes: ``[features, segments]``.
            feature: row of ``codes``.
        """
        line = slice(codes.indptr[feature], codes.indptr[feature + 1])
        where = np.asarray(codes.indices[line], np.int64)
        activation = np.asarray(codes.data[line], np.float64)
        if self.shared is None:
            return where, activation
        kept = self.shared[where]
        return where[kept], activation[kept]

    def candidates(
        self, feature: int, firings: FiringRows, atlas: Atlas, count: int, most: int
    ) -> NDArray[np.int32]:
        """Return features of the target that may be the query's nearest.

        Args:
            feature: the query, which is no candidate of its own dictionary.
            firings: of the query.
            atlas: the signatures.
            count: how many are wanted.
            most: how many the atlas proposes.

        Returns:
            Their numbers: the best, some more than asked for, where all were compared.
        """
        is_own = self.query.id == self.target.id
        r = self._with_all(firings, self.target, atlas)
        if r is None:
            vector = atlas.vectors(self.query.id, [feature])
            found = atlas.search(vector, [self.target.id], count=most + 1)[self.target.id].feature
            found = found[0][found[0] >= 0]
            return found[found != feature][:most] if is_own else found[:most]
        if is_own:
            r[feature] = 0.0
        positive = np.flatnonzero(r > 0)
        wanted = count + _SPARE
        if len(positive) > wanted:
            nth = np.partition(r[positive], len(positive) - wanted)[len(positive) - wanted]
            positive = positive[r[positive] >= nth - _TIE]
        return positive.astype(np.int32)

    def is_best(
        self, feature: int, hit: int, r: float, firings: FiringRows, atlas: Atlas, most: int
    ) -> bool:
        """Return whether none of the query's dictionary correlates more with a hit.

        Args:
            feature: the query.
            hit: feature of the target.
            r: their correlation.
            firings: of the hit.
            atlas: the signatures.
            most: how many rivals the atlas proposes, where not all are compared.
        """
        own = [feature, hit] if self.query.id == self.target.id else [feature]
        against = self._with_all(firings, self.query, atlas)
        if against is None:
            vector = atlas.vectors(self.target.id, [hit])
            found = atlas.search(vector, [self.query.id], count=most)[self.query.id].feature[0]
            rivals = found[(found >= 0) & ~np.isin(found, own)]
            one = self.restricted(self.target.features_matrix([hit]))
            many = self.restricted(self.query.features_matrix(rivals))
            against = one_with_many(one, many).r
        else:
            against[own] = 0.0
        return bool(against.max(initial=0.0) <= r + _TIE)

    def restricted(self, codes: sp.csr_array) -> sp.csr_array:
        """Return codes on the segments that both have, ``[features, rows]``."""
        if self.shared is None:
            return codes
        return sp.csr_array(codes[:, np.flatnonzero(self.shared)])

    def _with_all(
        self, firings: FiringRows, side: ProbedDictionary, atlas: Atlas
    ) -> NDArray[np.float64] | None:
        """Return r of a feature with every indexed feature of a side, ``[features]``.

        It is 0 where it is not positive. None where that costs more than a search of the atlas, or
        the codes are not in memory.
        """
        where, activation = firings
        per_row = side.codes.entries / max(side.codes.rows, 1)
        if len(where) * per_row > CHEAP * side.features or side.by_row is None:
            return None
        sums = side.moments if self.shared is None else side.moments_on(self.shared)
        if sums is None:
            return None
        products = sum_products(where, activation, side.by_row, side.features)
        r = np.zeros(side.features)
        some = np.flatnonzero(products > 0)
        some = some[atlas.is_indexed(side.id)[some]]
        r[some] = _correlation(products[some], activation, sums, some)
        return r


def _correlation(
    products: NDArray[np.float64],
    activation: NDArray[np.float64],
    sums: Moments,
    of: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return r of a feature with others from Σab; at least 0."""
    one = Moments(
        rows=sums.rows,
        total=activation.sum(keepdims=True),
        squares=(activation**2).sum(keepdims=True),
        fires=np.array([len(activation)]),
    )
    first = np.zeros(len(of), np.int64)
    return np.maximum(pearson(products, one, sums, first, of), 0.0)
