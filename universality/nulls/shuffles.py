"""How many features would match if two dictionaries had nothing in common but a stratum.

One null with a key. Every row of the second dictionary takes another row of its stratum: of equal
token, position or document (or any other row: ``none``), separately on the half of the probe that
chooses pairs and on the half that reports them; then everything is done again: every candidate is
compared, each feature keeps its best, mutual bests become pairs, and r is measured on the report
half. What is left is what the stratum alone gives, the maximum over all candidates included.

Rows that are alone in their stratum are left out, and no row keeps its own partner: either would
count what the two dictionaries share there as what the stratum gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import nbinom, t

from isogloss.errors import InvalidInput
from isogloss.universality.correlation.best_matches import BestMatches, best_matches
from isogloss.universality.correlation.moments import shape_of
from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.nulls.strata import KEYS, Strata

BAND_EDGES = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000)
"""Firing counts at which one band ends and the next begins."""

LEVELS = (0.3, 0.5, 0.7)
"""The r at which pairs are counted, and at which a null must be known well."""

PRECISION = 0.02
"""Rows are shuffled until the standard error of the mean number of pairs is at most this share of
it, or 1 pair, at each of ``LEVELS``."""

_PREDICTED = 0.975
_OWN = 0x6E756C6C
"""Parts the draws from other uses of a seed: numpy takes the seeds 0 and [0, 0, 0] for one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Half:
    """The codes of both dictionaries on one half of the probe, over the rows both have."""

    a: sp.csr_array
    """First dictionary, feature-major ``[features_a, rows]``."""
    b: sp.csr_array
    """Second dictionary, row-major ``[rows, features_b]``."""
    strata: tuple[Strata, ...]
    """Partitions of the rows, one a key of the null."""
    sources: Strata
    """Partition of the rows by source of text."""

    @property
    def rows(self) -> int:
        """How many rows the half has."""
        return shape_of(self.b)[0]

    def partition(self, key: str) -> Strata:
        """Return the rows' strata for a key: groups of rows of equal token, position or document.

        Args:
            key: ``token``, ``position``, ``document`` or ``none``.

        Returns:
            The strata.

        Raises:
            InvalidInput: the half has no strata for this key.
        """
        for strata in self.strata:
            if strata.key == key:
                return strata
        found = ", ".join(strata.key for strata in self.strata)
        raise InvalidInput(f"no strata of key {key!r}; this half has: {found}")


@dataclass(frozen=True, kw_only=True, eq=False)
class NullDraws:
    """Matching repeated on shuffled rows."""

    key: str
    """The key of the strata within which rows were shuffled."""
    movable: float
    """Share of the rows of the choose half that the shuffle could move."""
    best_a: NDArray[np.float32]
    """Best r of each feature of the first dictionary (choose half), ``[draws, features_a]``."""
    best_b: NDArray[np.float32]
    """Best r of each feature of the second dictionary, ``[draws, features_b]``."""
    pair_r: NDArray[np.float32]
    """r on the report half of the mutual pairs of all draws, ``[pairs of all draws]``."""
    pair_draw: NDArray[np.int32]
    """For each of ``pair_r``, the number of the draw that found it."""

    @property
    def draws(self) -> int:
        """How often the rows were shuffled."""
        return int(self.best_a.shape[0])

    def shared(self, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean number of pairs of a draw with r at or above each threshold."""
        return count_at(self.pair_r, thresholds) / self.draws

    def standard_error(self, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard error of ``shared``; NaN for a single draw."""
        if self.draws < 2:
            return np.full(len(thresholds), np.nan)
        return np.asarray(np.std(self._counts(thresholds), axis=0, ddof=1) / np.sqrt(self.draws))

    def highest(self, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many pairs one more draw would give at most, with 97.5 % confidence.

        The larger of two upper ends of a prediction interval: for counts that are Poisson, the
        quantile of the negative binomial law that follows from Jeffreys' prior, which is above 0
        also where no draw gave a pair; and Student's, for counts that spread more than that.
        """
        counts = self._counts(thresholds)
        shape, chance = counts.sum(axis=0) + 0.5, self.draws / (self.draws + 1)
        found = np.asarray(nbinom.ppf(_PREDICTED, shape, chance), np.float64)
        if self.draws > 1:
            spread = np.std(counts, axis=0, ddof=1) * np.sqrt(1 + 1 / self.draws)
            student = float(t.ppf(_PREDICTED, self.draws - 1))
            found = np.maximum(found, counts.mean(axis=0) + student * spread)
        return found

    def _counts(self, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Count the pairs of each draw at or above each threshold, ``[draws, thresholds]``."""
        return np.array(
            [
                count_at(self.pair_r[self.pair_draw == draw], thresholds)
                for draw in range(self.draws)
            ],
            np.int64,
        )

    @property
    def is_precise(self) -> bool:
        """Whether the number of pairs is known to ``PRECISION``, or 1 pair, at each level."""
        levels = np.asarray(LEVELS)
        error = self.standard_error(levels)
        return bool((error <= np.maximum(PRECISION * self.shared(levels), 1.0)).all())


def draw_null(
    key: str, choose: Half, report: Half, *, draws: int, most: int, seed: int, min_r: float
) -> NullDraws:
    """Exchange the rows of the second dictionary within strata and match again, until it suffices.

    Args:
        key: the strata within which rows are exchanged; one of ``KEYS``.
        choose: the half on which pairs are chosen.
        report: the half on which their r is measured.
        draws: how many times at least.
        most: how many times at most, where ``NullDraws.is_precise`` stays false.
        seed: the draws are a pure function of (seed, key, number of the draw).
        min_r: pairs whose r on the choosing half is lower are dropped, as in matching itself.

    Returns:
        The best r and the pairs of every draw.

    Raises:
        InvalidInput: unknown key, fewer than one draw, or more at least than at most.
    """
    if not 1 <= draws <= most:
        raise InvalidInput(f"draws {draws} must be at least 1 and at most the {most} of most")
    movable = choose.partition(key).movable
    halves = (_without_lone_rows(choose, key), _without_lone_rows(report, key))
    best: list[BestMatches] = []
    pair_r: list[NDArray[np.float64]] = []
    while True:
        chosen, reported = _exchanged(halves, key, seed, len(best))
        best.append(best_matches(halves[0].a, chosen))
        of_a, of_b = best[-1].mutual(min_r)
        pair_r.append(pair_statistics(halves[1].a, reported.T.tocsr(), of_a, of_b).r)
        found = _null_draws(key, movable, best, pair_r)
        if len(best) >= most or (len(best) >= draws and found.is_precise):
            return found


def shuffled_once(key: str, choose: Half, report: Half, seed: int) -> tuple[Half, Half]:
    """Return both halves with the rows of the second dictionary exchanged, as in the first draw.

    Args:
        key: the strata within which rows are exchanged; rows alone in their stratum are left out.
        choose: the half on which is chosen.
        report: the half on which is measured.
        seed: as for :func:`draw_null`.
    """
    halves = (_without_lone_rows(choose, key), _without_lone_rows(report, key))
    chosen, reported = _exchanged(halves, key, seed, 0)
    return replace(halves[0], b=chosen), replace(halves[1], b=reported)


def _exchanged(
    halves: tuple[Half, Half], key: str, seed: int, draw: int
) -> tuple[sp.csr_array, sp.csr_array]:
    generator = np.random.default_rng([_OWN, seed, KEYS.index(key), draw])
    chosen, reported = (half.b[half.strata[0].exchange(generator)] for half in halves)
    return chosen, reported


def _without_lone_rows(half: Half, key: str) -> Half:
    """Return the rows that an exchange can move; one row that none can, where there is no other."""
    strata = half.partition(key)
    rows = np.flatnonzero(strata.counts[strata.label] > 1)
    if len(rows) == half.rows:
        return replace(half, strata=(strata,))
    rows = rows if len(rows) else np.zeros(1, np.int64)
    return Half(
        a=half.a[:, rows].tocsr(),
        b=half.b[rows],
        strata=(strata.take(rows),),
        sources=half.sources.take(rows),
    )


def _null_draws(
    key: str, movable: float, best: Sequence[BestMatches], pair_r: Sequence[NDArray[np.float64]]
) -> NullDraws:
    return NullDraws(
        key=key,
        movable=movable,
        best_a=np.stack([found.a.r for found in best]).astype(np.float32),
        best_b=np.stack([found.b.r for found in best]).astype(np.float32),
        pair_r=np.concatenate(pair_r).astype(np.float32),
        pair_draw=np.repeat(np.arange(len(best), dtype=np.int32), [len(r) for r in pair_r]),
    )


def count_at(r: NDArray[np.floating], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of ``r`` are at or above each threshold, ``[thresholds]``."""
    below = np.searchsorted(np.sort(r.astype(np.float64)), thresholds, side="left")
    return (r.size - below).astype(np.int64)


def band_of(fires: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the firing band of each count, from 0."""
    return np.searchsorted(np.asarray(BAND_EDGES), fires, side="right").astype(np.int64)
