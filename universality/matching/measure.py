"""Measure mutual pairs on the half of the probe that did not choose them."""

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.universality.correlation.best_matches import BestMatches
from isogloss.universality.correlation.pair_statistics import PairStatistics, pair_statistics
from isogloss.universality.correlation.ranks import pair_ranks
from isogloss.universality.matching.directions import Directions, pair_cosines
from isogloss.universality.matching.pairs import Pairs
from isogloss.universality.matching.result import MatchedDictionary
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.nulls.compress import compress
from isogloss.universality.nulls.intervals import (
    LOOSE_COFIRES,
    LOOSE_FIRES,
    correlation_intervals,
    effective_firings,
)
from isogloss.universality.nulls.rules import Beyond, beyond_token, replicates
from isogloss.universality.nulls.shuffles import Half
from isogloss.universality.nulls.strata import explain_pairs

Integers = NDArray[np.integer]


def measure_pairs(
    choose: Half,
    report: Half,
    best: BestMatches,
    sides: tuple[MatchedDictionary, MatchedDictionary],
    settings: MatchSettings,
    directions: tuple[Directions | None, Directions | None] = (None, None),
) -> tuple[Pairs, float]:
    """Measure the mutual pairs on the report half.

    Args:
        choose: the half that chose them.
        report: the other half.
        best: best partners on the choose half.
        sides: the dictionaries; pairs hold the numbers of ``MatchedDictionary.compared``.
        settings: bars and confidence.
        directions: weights of each dictionary; None: unknown.

    Returns:
        The pairs, strongest first, and how many are expected beyond their token by chance.
    """
    of_a, of_b = best.mutual(settings.min_r)
    b = report.b.T.tocsr()
    statistics = pair_statistics(report.a, b, of_a, of_b)
    interval = correlation_intervals(
        report.a, b, of_a, of_b, report.sources, confidence=settings.confidence
    )
    ranks = pair_ranks(report.a, report.b, of_a, of_b, statistics.r)
    again = (ranks.of_a == 1) & (ranks.of_b == 1)
    one, other = compress(report.a[of_a]), compress(b[of_b])
    each = np.arange(len(of_a))
    compressed = correlation_intervals(
        one, other, each, each, report.sources, confidence=settings.confidence
    )
    beyond = _beyond(one, other, report)
    chosen = (sides[0].fires[of_a], sides[1].fires[of_b])
    fires = np.minimum.reduce([*chosen, statistics.fires_a, statistics.fires_b])
    runner_up = np.maximum(best.a.second[of_a], best.b.second[of_b])
    columns: dict[str, NDArray[np.generic]] = {
        "feature_a": sides[0].compared[of_a],
        "feature_b": sides[1].compared[of_b],
        "r_choose": best.a.r[of_a],
        "margin": best.a.r[of_a] - runner_up,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "ci_high_loose": _is_loose(report.a, b, of_a, of_b, statistics.cofires),
        "rank_a": ranks.of_a,
        "rank_b": ranks.of_b,
        "replicates": replicates(compressed.low, again, fires, bar=settings.replicates_low),
        **_of_statistics(statistics),
        **_of_strata(report, b, of_a, of_b),
        **_of_beyond(beyond),
    }
    columns |= _of_directions(directions, columns)
    order = np.lexsort((columns["feature_a"], -statistics.r))
    return Pairs.from_columns(columns).take(order), beyond.chance


def _is_loose(
    a: sp.csr_array, b: sp.csr_array, of_a: Integers, of_b: Integers, cofires: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Say of which pairs too few rows decide for the upper end of the interval."""
    effective = np.minimum(effective_firings(a[of_a]), effective_firings(b[of_b]))
    return (cofires < LOOSE_COFIRES) | (effective < LOOSE_FIRES)


def _beyond(one: sp.csr_array, other: sp.csr_array, report: Half) -> Beyond:
    return beyond_token(
        one,
        other,
        token=report.partition("token"),
        position=report.partition("position"),
        joint=report.partition("token_position"),
        sources=report.sources,
    )


def _of_statistics(statistics: PairStatistics) -> dict[str, NDArray[np.generic]]:
    names = ("r", "fires_a", "fires_b", "cofires", "jaccard", "cosine")
    found: dict[str, NDArray[np.generic]] = {name: getattr(statistics, name) for name in names}
    for name, fires in (("b_given_a", statistics.fires_a), ("a_given_b", statistics.fires_b)):
        never = np.full(len(fires), np.nan)
        found[name] = np.divide(statistics.cofires, fires, out=never, where=fires > 0)
    return found


def _of_directions(
    directions: tuple[Directions | None, Directions | None],
    columns: Mapping[str, NDArray[np.generic]],
) -> dict[str, NDArray[np.generic]]:
    """Return the cosines of what pairs write and read, by the features' own numbers."""
    numbers = columns["feature_a"].astype(np.int64), columns["feature_b"].astype(np.int64)
    a, b = ((None, None) if side is None else (side.decoder, side.encoder) for side in directions)
    return {
        "decoder_cosine": pair_cosines(a[0], b[0], *numbers),
        "encoder_cosine": pair_cosines(a[1], b[1], *numbers),
    }


def _of_strata(
    report: Half, b: sp.csr_array, of_a: Integers, of_b: Integers
) -> dict[str, NDArray[np.generic]]:
    """Return what the token, the position and the document explain; ``b`` is feature-major."""
    token, position, document = (
        explain_pairs(report.a, b, of_a, of_b, report.partition(key))
        for key in ("token", "position", "document")
    )
    return {
        "token_null": token.expected,
        "position_null": position.expected,
        "document_null": document.expected,
        "partial_token": token.partial,
        "eta2_token_a": token.eta2_a,
        "eta2_token_b": token.eta2_b,
    }


def _of_beyond(beyond: Beyond) -> dict[str, NDArray[np.generic]]:
    return {
        "beyond_token": beyond.label,
        "beyond_partial": beyond.token.partial,
        "beyond_low": beyond.token.low,
        "beyond_high": beyond.token.high,
        "beyond_p": beyond.token.p,
        "movable": beyond.token.movable,
        "positional": beyond.positional,
    }
