"""Features that fire like a given profile: exact correlation with all features of dictionaries."""

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import DeadFeature, EmptyProbe, InvalidInput, ShapeError
from isogloss.universality.atlas.neighbour import Neighbour
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.correlation.pair_statistics import PairStatistics, pair_statistics
from isogloss.universality.nulls.strata import Strata, explain_pairs
from isogloss.universality.probe.probe import Probe

_BLOCK = 4096
"""Features that are compared at a time."""


def nearest_to_profile(
    profile: NDArray[np.floating],
    probed: Mapping[str, ProbedDictionary],
    probe: Probe,
    *,
    count: int = 5,
) -> list[Neighbour]:
    """Find the features that are active where a profile is: codes of anything on a probe.

    Every feature is compared, exactly; no index proposes candidates.

    Args:
        profile: an activation for each segment of the probe, ``[segments]``; 0 where it is silent.
        probed: the dictionaries' codes on the probe, by id.
        probe: the segments.
        count: hits per dictionary.

    Returns:
        The best ``count`` of each dictionary with r > 0, largest r first. None is mutual: a profile
        belongs to no dictionary.

    Raises:
        ShapeError: the profile is not ``[segments]``.
        InvalidInput: no dictionary is given, ``count`` is below 1, or a value is not finite.
        DeadFeature: the profile does not vary over the segments of any dictionary.
    """
    if profile.shape != (probe.segments,):
        raise ShapeError(
            f"codes are {list(profile.shape)}, wanted [{probe.segments}]: a value for each segment "
            "of the probe"
        )
    if not probed or count < 1:
        raise InvalidInput(f"{len(probed)} dictionaries and count {count}, wanted 1 or more each")
    if not np.isfinite(profile).all():
        raise InvalidInput("codes hold what is not finite: give numbers, 0 where it is silent")
    hits: list[Neighbour] = []
    varies = False
    for target in probed.values():
        rows = np.flatnonzero(target.present)
        here = profile[rows].astype(np.float64)
        if len(rows) and here.min() < here.max():
            varies = True
            hits += _rank(here, target, probe, rows, count)
    if not varies:
        raise DeadFeature("the codes do not vary on the segments: they correlate with nothing")
    return sorted(hits, key=lambda hit: (-hit.r, hit.dictionary, hit.feature))


def _rank(
    profile: NDArray[np.float64],
    target: ProbedDictionary,
    probe: Probe,
    rows: NDArray[np.intp],
    count: int,
) -> list[Neighbour]:
    """Rank all features of a dictionary by their correlation with a profile of its rows."""
    if not len(rows):
        raise EmptyProbe(f"{target.id!r} has no segment of the probe")
    a = sp.csr_array(profile[None, :])
    r = np.empty(target.features)
    for start in range(0, target.features, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, target.features))
        r[block] = _pairs(a, target, rows, block).r
    best = np.argsort(-r, kind="stable")[: count + 1]
    best = best[r[best] > 0]
    top = best[:count]
    if not len(top):
        return []
    exact = _pairs(a, target, rows, top)
    label = probe.token_labels[rows]
    strata = Strata(key="token", label=label, counts=np.maximum(np.bincount(label), 1))
    b = target.features_matrix(top)[:, rows]
    of_a, of_b = np.zeros(len(top), np.int32), np.arange(len(top), dtype=np.int32)
    explained = explain_pairs(a, b, of_a, of_b, strata)
    second = float(r[best[1]]) if len(best) > 1 else 0.0
    return [
        Neighbour(
            dictionary=target.id,
            feature=int(feature),
            r=float(exact.r[at]),
            token_null=float(explained.expected[at]),
            partial_token=float(explained.partial[at]),
            margin=float(exact.r[at] - (exact.r[0] if at else second)),
            mutual=False,
            cofires=int(exact.cofires[at]),
            fires=int(exact.fires_b[at]),
        )
        for at, feature in enumerate(top.tolist())
    ]


def _pairs(
    a: sp.csr_array, target: ProbedDictionary, rows: NDArray[np.intp], features: NDArray[np.intp]
) -> PairStatistics:
    b = target.features_matrix(features)[:, rows]
    of_b = np.arange(len(features), dtype=np.int32)
    return pair_statistics(a, b, np.zeros(len(features), np.int32), of_b)
