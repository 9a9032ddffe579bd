"""Nearest features across dictionaries: candidates, then exact correlation from codes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import DeadFeature, EmptyProbe, InvalidInput, NotFound
from isogloss.universality.atlas.atlas import Atlas
from isogloss.universality.atlas.neighbour import Neighbour
from isogloss.universality.atlas.pairing import FiringRows, Pairing
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.correlation.pair_statistics import PairStatistics, one_with_many
from isogloss.universality.nulls.strata import Strata, StratifiedPairs, explain_pairs
from isogloss.universality.probe.probe import Probe

_log = logging.getLogger(__name__)

_CANDIDATES = 100
"""At m = 512 the best partner of 96 % of real features is among its first 100 candidates."""


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

    All features of a target are compared exactly where that is less work than a search of the atlas
    (the query fires on few segments, and codes are in memory). Else each target gives its
    ``candidates`` nearest signatures. Either are ranked by their exact correlation, on both halves
    of the probe.

    Args:
        atlas: the signatures of the dictionaries on the probe.
        probed: the same dictionaries' codes, by id.
        probe: the segments.
        dictionary: id of the query's dictionary.
        feature: the query.
        among: ids of the dictionaries to search; the query itself is never a hit.
        count: hits per target dictionary.
        candidates: signatures per target dictionary that the atlas proposes.
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
    pairings = {name: Pairing(query, _lookup(probed, name)) for name in among}
    question = _Question(
        feature=feature,
        codes=query.features_matrix([feature]),
        atlas=atlas,
        probe=probe,
        count=count,
        most=candidates,
    )
    sharing = _sharing(pairings, dictionary, on_skipped or _logger(dictionary))
    groups = _alike([pairings[name] for name in sharing])
    return sorted(chain.from_iterable(map(question.rank, groups)), key=_by_r)


@dataclass(frozen=True, kw_only=True)
class _Question:
    """A feature, and how much is wanted."""

    feature: int
    codes: sp.csr_array
    """``[1, segments]``."""
    atlas: Atlas
    probe: Probe
    count: int
    most: int
    """Candidates that the atlas proposes."""

    def rank(self, group: Sequence[Pairing]) -> list[Neighbour]:
        """Return the best of targets that share the same segments with the query, in one pass."""
        chosen: list[tuple[Pairing, NDArray[np.int32]]] = []
        for pairing in group:
            firings = pairing.firings(self.codes)
            found = pairing.candidates(self.feature, firings, self.atlas, self.count, self.most)
            if len(found):
                chosen.append((pairing, found))
        if not chosen:
            return []
        codes = _stacked([pairing.target.features_matrix(found) for pairing, found in chosen])
        one = group[0].restricted(self.codes)
        statistics = one_with_many(one, group[0].restricted(codes))
        ends = np.cumsum([len(found) for _, found in chosen])
        ranked = [
            _Ranked.of(pairing, found, end - len(found), statistics, self.count)
            for (pairing, found), end in zip(chosen, ends.tolist(), strict=True)
        ]
        top = np.concatenate([one.top for one in ranked])
        explained = self._explain(one, group[0].restricted(codes[top]), group[0])
        hits: list[Neighbour] = []
        for one_target in ranked:
            hits += self._neighbours(one_target, codes, statistics, explained, len(hits))
        return hits

    def _neighbours(
        self,
        ranked: "_Ranked",
        codes: sp.csr_array,
        statistics: PairStatistics,
        explained: StratifiedPairs,
        done: int,
    ) -> list[Neighbour]:
        """Return the hits of one target; ``explained`` begins with those of the ``done`` before."""
        if not len(ranked.top):
            return []
        pairing, best = ranked.pairing, int(ranked.top[0])
        first = float(statistics.r[best])
        firings: FiringRows = pairing.firings(codes, best)
        hit = int(ranked.features[0])
        mutual = pairing.is_best(self.feature, hit, first, firings, self.atlas, self.most)
        return [
            Neighbour(
                dictionary=pairing.target.id,
                feature=int(ranked.features[rank]),
                r=float(statistics.r[at]),
                token_null=float(explained.expected[done + rank]),
                partial_token=float(explained.partial[done + rank]),
                margin=float(statistics.r[at] - (first if rank else ranked.second)),
                mutual=mutual and rank == 0,
                cofires=int(statistics.cofires[at]),
                fires=int(statistics.fires_b[at]),
            )
            for rank, at in enumerate(ranked.top.tolist())
        ]

    def _explain(self, one: sp.csr_array, hits: sp.csr_array, pairing: Pairing) -> StratifiedPairs:
        label = self.probe.token_labels
        if pairing.shared is not None:
            label = label[pairing.shared]
        # A token that no shared segment has keeps its number; its count divides nothing.
        strata = Strata(key="token", label=label, counts=np.maximum(np.bincount(label), 1))
        of_b = np.arange(hits.indptr.size - 1)
        return explain_pairs(one, hits, np.zeros_like(of_b), of_b, strata)


@dataclass(frozen=True, kw_only=True)
class _Ranked:
    """The best candidates of one target, strongest first."""

    pairing: Pairing
    features: NDArray[np.int32]
    """Their numbers."""
    top: NDArray[np.int64]
    """Their places among the candidates of all targets."""
    second: float
    """r of the runner-up; 0 where there is none."""

    @classmethod
    def of(
        cls,
        pairing: Pairing,
        candidates: NDArray[np.int32],
        start: int,
        statistics: PairStatistics,
        count: int,
    ) -> "_Ranked":
        """Rank candidates, whose statistics begin at ``start``; those with r > 0 only."""
        r = statistics.r[start : start + len(candidates)]
        order = np.lexsort((candidates, -r))
        order = order[r[order] > 0]
        return cls(
            pairing=pairing,
            features=candidates[order[:count]],
            top=start + order[:count],
            second=float(r[order[1]]) if len(order) > 1 else 0.0,
        )


def _stacked(parts: Sequence[sp.csr_array]) -> sp.csr_array:
    return sp.csr_array(sp.vstack(parts, format="csr"))


def _by_r(hit: Neighbour) -> tuple[float, str, int]:
    return -hit.r, hit.dictionary, hit.feature


def _alike(pairings: Sequence[Pairing]) -> list[list[Pairing]]:
    """Group targets that share the same segments with the query."""
    found: dict[bytes, list[Pairing]] = {}
    for pairing in pairings:
        key = b"" if pairing.shared is None else pairing.shared.tobytes()
        found.setdefault(key, []).append(pairing)
    return list(found.values())


def _sharing(
    pairings: Mapping[str, Pairing], dictionary: str, on_skipped: Callable[[str], None]
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
