"""Nearest features across dictionaries: candidates from the atlas, exact correlation from codes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import DeadFeature, EmptyProbe, InvalidInput, NotFound
from isogloss.universality.atlas.atlas import Atlas
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.correlation.pair_statistics import PairStatistics, pair_statistics
from isogloss.universality.nulls.strata import Strata, StratifiedPairs, explain_pairs
from isogloss.universality.probe.probe import Probe

_log = logging.getLogger(__name__)

_CANDIDATES = 100
"""At m = 512 the best partner of 96 % of real features is among its first 100 candidates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """A feature of another dictionary that is active where the query is."""

    dictionary: str
    """Id of the dictionary that the feature belongs to."""

    feature: int
    """Number of the feature in its dictionary."""

    r: float
    """Exact Pearson correlation with the query over all segments that both have."""

    token_null: float
    """Mean r when each segment takes another one of the same token; NaN where too few have one."""

    partial_token: float
    """Correlation among segments of the same token; NaN where neither can vary there."""

    margin: float
    """``r`` minus the best r of the dictionary's other candidates; above 0 only for the first."""

    mutual: bool
    """True when it is the query's best in its dictionary, and no feature of the query's dictionary
    correlates more with it than the query."""

    cofires: int
    """Segments on which both fire."""

    fires: int
    """Segments on which it fires, of those that both have."""

    @property
    def excess(self) -> float:
        """``r - token_null``: the part of the correlation that equal tokens do not explain."""
        return self.r - self.token_null


def nearest(
    atlas: Atlas,
    probed: Mapping[str, ProbedDictionary],
    probe: Probe,
    *,
    dictionary: str,
    feature: int,
    among: Sequence[str],
    count: int = 5,
    candidates: int = _CANDIDATES,
    on_skipped: Callable[[str], None] | None = None,
) -> list[Neighbour]:
    """Find the features of other dictionaries that are active where one feature is.

    Each target dictionary gives its ``candidates`` nearest signatures; these are ranked again by
    their exact correlation, on both halves of the probe.

    Args:
        atlas: the signatures of the dictionaries on the probe.
        probed: the same dictionaries' codes, by id.
        probe: the segments.
        dictionary: id of the query's dictionary.
        feature: the query.
        among: ids of the dictionaries to search; the query itself is never a hit.
        count: hits per target dictionary.
        candidates: signatures per target dictionary that are compared exactly.
        on_skipped: called with the id of each target that shares no segment with the query's
            dictionary; None: it is named in the log.

    Returns:
        The best ``count`` of each target with r > 0, largest r first.

    Raises:
        NotFound: a dictionary is not on the probe.
        InvalidInput: no such feature, no target, or ``count`` outside [1, candidates].
        DeadFeature: the query fires too rarely on the probe to be compared, or never varies.
        EmptyProbe: no target has a segment in common with the query's dictionary. One of several
            that has none is left out.
    """
    if not among:
        raise InvalidInput("among is empty; name at least one dictionary to search")
    if not 1 <= count <= candidates:
        raise InvalidInput(f"count is {count}, wanted 1 to the {candidates} candidates compared")
    query = _lookup(probed, dictionary)
    query.check_feature(feature, atlas.min_fires)
    _check_varies(query, feature)
    found = atlas.search(atlas.vectors(dictionary, [feature]), among, count=candidates + 1)
    hits: list[Neighbour] = []
    pairings = {name: _Pairing(query, _lookup(probed, name), probe) for name in found}
    for name in _sharing(pairings, dictionary, on_skipped or _logger(dictionary)):
        target = found[name]
        chosen = target.feature[0][target.feature[0] >= 0]
        if name == dictionary:
            chosen = chosen[chosen != feature]
        if len(chosen):
            ranked = pairings[name].rank(feature, chosen[:candidates], atlas, count, candidates)
            hits.extend(ranked)
    return sorted(hits, key=lambda hit: (-hit.r, hit.dictionary, hit.feature))


@dataclass(frozen=True)
class _Pairing:
    """The query's dictionary and a target, on the segments that both have."""

    query: ProbedDictionary
    target: ProbedDictionary
    probe: Probe

    @cached_property
    def shared(self) -> NDArray[np.bool_] | None:
        """Mask of the segments that both have; None where that is all of them."""
        both = self.query.present & self.target.present
        return None if both.all() else both

    @property
    def rows(self) -> int:
        """How many segments both have."""
        return self.probe.segments if self.shared is None else int(self.shared.sum())

    def rank(
        self,
        feature: int,
        chosen: NDArray[np.int32],
        atlas: Atlas,
        count: int,
        candidates: int,
    ) -> list[Neighbour]:
        """Rank candidates of the target by exact correlation with the query."""
        statistics = self._statistics(np.full(len(chosen), feature, np.int32), chosen)
        order = np.lexsort((chosen, -statistics.r))
        order = order[statistics.r[order] > 0]
        if not len(order):
            return []
        second = statistics.r[order[1]] if len(order) > 1 else 0.0
        first = float(statistics.r[order[0]])
        top = order[:count]
        explained = self._explain(feature, chosen[top])
        mutual = self._is_best(feature, int(chosen[top[0]]), first, atlas, candidates)
        return [
            Neighbour(
                dictionary=self.target.id,
                feature=int(chosen[at]),
                r=float(statistics.r[at]),
                token_null=float(explained.expected[rank]),
                partial_token=float(explained.partial[rank]),
                margin=float(statistics.r[at] - (first if rank else second)),
                mutual=mutual and rank == 0,
                cofires=int(statistics.cofires[at]),
                fires=int(statistics.fires_b[at]),
            )
            for rank, at in enumerate(top.tolist())
        ]

    def _statistics(
        self, features: NDArray[np.int32], of_target: NDArray[np.int32]
    ) -> PairStatistics:
        used, at = np.unique(features, return_inverse=True)
        used_target, at_target = np.unique(of_target, return_inverse=True)
        return pair_statistics(
            self.query.features_matrix(used),
            self.target.features_matrix(used_target),
            at.astype(np.int32),
            at_target.astype(np.int32),
            shared=self.shared,
        )

    def _is_best(self, feature: int, hit: int, r: float, atlas: Atlas, candidates: int) -> bool:
        """Return whether none of the query's dictionary correlates more with the hit."""
        vector = atlas.vectors(self.target.id, [hit])
        found = atlas.search(vector, [self.query.id], count=candidates)
        rivals = found[self.query.id].feature[0]
        rivals = rivals[(rivals >= 0) & (rivals != feature)]
        if self.query.id == self.target.id:
            rivals = rivals[rivals != hit]
        if not len(rivals):
            return True
        against = self._statistics(rivals, np.full(len(rivals), hit, np.int32))
        return bool(against.r.max() <= r)

    def _explain(self, feature: int, hits: NDArray[np.int32]) -> StratifiedPairs:
        a = self.query.features_matrix([feature])
        b = self.target.features_matrix(hits)
        label = self.probe.token_labels
        if self.shared is not None:
            rows = np.flatnonzero(self.shared)
            a, b, label = a[:, rows], b[:, rows], label[rows]
        # A token that no shared segment has keeps its number; its count divides nothing.
        strata = Strata(key="token", label=label, counts=np.maximum(np.bincount(label), 1))
        of_a = np.zeros(len(hits), np.int32)
        of_b = np.arange(len(hits), dtype=np.int32)
        return explain_pairs(a, b, of_a, of_b, strata)


def _sharing(
    pairings: Mapping[str, _Pairing], dictionary: str, on_skipped: Callable[[str], None]
) -> list[str]:
    """Return the targets that share segments with the query; tell of the others."""
    apart = [name for name, pairing in pairings.items() if not pairing.rows]
    if len(apart) == len(pairings):
        raise EmptyProbe(
            f"{dictionary!r} has no segment in common with {', '.join(apart)}: compare "
            "dictionaries whose recordings share documents"
        )
    for name in apart:
        on_skipped(name)
    return [name for name in pairings if name not in apart]


def _logger(dictionary: str) -> Callable[[str], None]:
    def log(name: str) -> None:
        _log.warning(
            "%r has no segment in common with %r: nothing there can be compared", name, dictionary
        )

    return log


def _check_varies(query: ProbedDictionary, feature: int) -> None:
    sums = query.moments
    if sums.spread[feature] == 0:
        raise DeadFeature(
            f"feature {feature} of {query.id!r} has the same activation on all {sums.rows} "
            "segments: it correlates with nothing; choose another"
        )


def _lookup(probed: Mapping[str, ProbedDictionary], name: str) -> ProbedDictionary:
    found = probed.get(name)
    if found is None:
        raise NotFound(
            f"dictionary {name!r} is not encoded on this probe, which has {', '.join(probed)}; "
            "add it to the probe"
        )
    return found
