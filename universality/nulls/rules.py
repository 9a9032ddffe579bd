"""The rules by which a pair replicates, and shares more than its token.

Bars, levels and counts were set by simulation; their false positives and power are measured by
``benchmarks/universality.py`` and stand in ``docs/matching.md``.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from isogloss.universality.nulls.intervals import LEAST_SOURCES
from isogloss.universality.nulls.labels import NO, UNDECIDED, YES, labelled
from isogloss.universality.nulls.strata import Strata
from isogloss.universality.nulls.within import Within, within_strata

LEAST_FIRES = 20
"""A pair that fires less often on either half cannot replicate."""

LEAST_MOVABLE = 30
"""Firings on tokens seen twice or more without which a pair cannot be beyond its token."""

DECISIVE = 100
"""Below so many firings a failed test is no evidence: the label is *undecided*."""

LEVEL = 0.01
"""Permutation p at most."""

RATE = 0.05
"""Rate of Benjamini and Hochberg (1995) over the testable pairs."""

PARTIAL_BAR = 0.2
"""Partial correlation of compressed codes given the token at least."""

CONFIDENCE = 0.9
"""Of the two-sided interval over sources, whose lower end must lie above 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Beyond:
    """Whether pairs share more than their token; arrays ``[pairs]``."""

    label: NDArray[np.int8]
    """Numbers of ``LABELS``."""
    positional: NDArray[np.bool_]
    """What is shared beyond the token is explained by the position, alone or with the token."""
    token: Within
    """What the pair shares among segments of the same token, on compressed codes."""
    chance: float
    """At most so many pairs are expected to pass by chance."""


def replicates(
    low: NDArray[np.float64],
    mutual_again: NDArray[np.bool_],
    fires: NDArray[np.int64],
    *,
    bar: float,
) -> NDArray[np.int8]:
    """Say which pairs hold on text that did not choose them.

    A pair replicates when each is the other's best there again, the lower end of its interval on
    compressed codes lies above a bar, and it fires often enough on both halves.

    Args:
        low: lower end of the interval of r on compressed codes, report half, ``[pairs]``; NaN where
            there is none.
        mutual_again: each is the other's best on the report half as well, ``[pairs]``.
        fires: firings of the rarer feature on the half where it fires less, ``[pairs]``.
        bar: what the lower end must exceed.

    Returns:
        ``[pairs]``, numbers of ``LABELS``.
    """
    passes = mutual_again & (np.nan_to_num(low, nan=-1.0) > bar)
    decisive = (fires >= DECISIVE) & (np.isfinite(low) | ~mutual_again)
    return labelled(passes, fires >= LEAST_FIRES, decisive)


def beyond_token(
    a: sp.csr_array,
    b: sp.csr_array,
    *,
    token: Strata,
    position: Strata,
    joint: Strata,
    sources: Strata,
) -> Beyond:
    """Say which pairs share more than which token stands there.

    A pair is beyond its token when, within tokens, its permutation p is at most ``LEVEL`` and
    passes Benjamini and Hochberg's rule, its partial correlation reaches ``PARTIAL_BAR`` and the
    lower end of its interval over sources lies above 0 (a shuffle ignores that the rows of one
    source depend on each other). Before that is said, the position is tried as an explanation:
    alone, and together with the token where enough firings can move.

    Args:
        a: compressed codes of each pair's first feature, ``[pairs, rows]``.
        b: compressed codes of each pair's second feature, ``[pairs, rows]``.
        token: partition of the rows by token.
        position: partition by position.
        joint: partition by token and position together.
        sources: partition by source.

    Returns:
        The labels, and what they rest on.
    """
    within = within_strata(a, b, token, sources, confidence=CONFIDENCE)
    testable = within.movable >= LEAST_MOVABLE
    count = int(testable.sum())
    small = np.zeros(len(testable), np.bool_)
    if count:
        small[testable] = false_discovery_control(within.p[testable]) <= RATE
    passed = int(small.sum())
    passes = _significant(within) & small & (np.nan_to_num(within.partial) >= PARTIAL_BAR)
    known = sources.size >= LEAST_SOURCES
    label = labelled(passes, testable, known & (within.movable >= DECISIVE))
    positional = np.zeros(len(testable), np.bool_)
    for strata, least in ((position, 0), (joint, LEAST_MOVABLE)):
        asked = np.flatnonzero(label == YES)
        again = within_strata(a[asked], b[asked], strata, sources, confidence=CONFIDENCE)
        failed = ~_significant(again) & (again.movable >= least)
        positional[asked[failed]] = True
        label[asked[failed]] = np.where(again.movable[failed] >= DECISIVE, NO, UNDECIDED)
    return Beyond(
        label=label,
        positional=positional,
        token=within,
        chance=min(LEVEL * count, RATE * max(passed, 1)) if count else 0.0,
    )


def _significant(within: Within) -> NDArray[np.bool_]:
    return (within.p <= LEVEL) & (np.nan_to_num(within.low, nan=-1.0) > 0)
