"""How many features would match if two dictionaries had nothing in common but a stratum.

One null with a key. The rows of the second dictionary are shuffled within strata of equal token,
position or document (or without strata: ``none``), separately on the half of the probe that chooses
pairs and on the half that reports them; then everything is done again: every candidate is compared,
each feature keeps its best, mutual bests become pairs, and r is measured on the report half. What
is left is what the stratum alone gives, the maximum over all candidates included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.universality.correlation.best_matches import BestMatches, best_matches
from isogloss.universality.correlation.moments import Moments, moments, shape_of
from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.nulls.strata import KEYS, Strata

BAND_EDGES = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000)
"""Firing counts at which one band ends and the next begins."""

BAND_LEAST = 50
"""A band with fewer null values than this borrows those of its nearest bands."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Half:
    """The codes of both dictionaries on one half of the probe, over the rows both have."""

    a: sp.csr_array
    """First dictionary, feature-major ``[features_a, rows]``."""
    b: sp.csr_array
    """Second dictionary, row-major ``[rows, features_b]``."""
    strata: tuple[Strata, ...]
    """Partitions of the rows, one a key of the null."""

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


@dataclass(frozen=True, kw_only=True, eq=False)
class BandQuantiles:
    """A quantile of the null's best r, by how often a feature fires."""

    edges: NDArray[np.int64]
    """Inner edges of the bands, ``[bands - 1]``."""
    value: NDArray[np.float64]
    """The quantile in each band, ``[bands]``."""

    def of(self, fires: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the quantile of the band that each firing count falls in."""
        return self.value[band_of(fires, self.edges)]


def draw_null(
    key: str, choose: Half, report: Half, *, draws: int, seed: int, min_r: float
) -> NullDraws:
    """Shuffle the rows of the second dictionary within strata and match again.

    Args:
        key: the strata within which to shuffle; one of ``KEYS``.
        choose: the half on which pairs are chosen.
        report: the half on which their r is measured.
        draws: how many times to shuffle.
        seed: the draws are a pure function of (seed, key, number of the draw).
        min_r: pairs whose r on the choosing half is lower are dropped, as in matching itself.

    Returns:
        The best r and the pairs of every draw.

    Raises:
        InvalidInput: unknown key, or fewer than one draw.
    """
    if draws < 1:
        raise InvalidInput(f"draws {draws} must be at least 1")
    chosen, reported = choose.partition(key), report.partition(key)
    best: list[BestMatches] = []
    pair_r: list[NDArray[np.float64]] = []
    for draw in range(draws):
        generator = np.random.default_rng([seed, KEYS.index(key), draw])
        best.append(best_matches(choose.a, choose.b[chosen.shuffle(generator)]))
        of_a, of_b = best[-1].mutual(min_r)
        shuffled = report.b[reported.shuffle(generator)].T.tocsr()
        pair_r.append(pair_statistics(report.a, shuffled, of_a, of_b).r)
    return NullDraws(
        key=key,
        movable=chosen.movable,
        best_a=np.stack([found.a.r for found in best]).astype(np.float32),
        best_b=np.stack([found.b.r for found in best]).astype(np.float32),
        pair_r=np.concatenate(pair_r).astype(np.float32),
        pair_draw=np.repeat(np.arange(draws, dtype=np.int32), [len(r) for r in pair_r]),
    )


def count_at(r: NDArray[np.floating], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of ``r`` are at or above each threshold, ``[thresholds]``."""
    below = np.searchsorted(np.sort(r.astype(np.float64)), thresholds, side="left")
    return (r.size - below).astype(np.int64)


def band_of(fires: NDArray[np.int64], edges: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return the firing band of each count, from 0."""
    inner = np.asarray(BAND_EDGES) if edges is None else edges
    return np.searchsorted(inner, fires, side="right").astype(np.int64)


def band_quantiles(
    best: Sequence[NDArray[np.float32]], fires: Sequence[NDArray[np.int64]], quantile: float
) -> BandQuantiles:
    """Return a quantile of best-match correlations, pooled by firing band.

    How large the best of many chance correlations gets depends on how often a feature fires, so
    features are pooled with others that fire about as often. A band with fewer than 50 values is
    joined with its neighbours, one more on each side, until it has them or all bands are joined.

    Args:
        best: best r by draw and feature, each ``[draws, features]``.
        fires: firing counts of the same features, each ``[features]``.
        quantile: in (0, 1).

    Returns:
        The quantile of every band.

    Raises:
        InvalidInput: there is no value at all.
    """
    values = np.concatenate([draws.astype(np.float64).ravel() for draws in best])
    counts = np.concatenate(
        [np.tile(count, draws.shape[0]) for draws, count in zip(best, fires, strict=True)]
    )
    if not values.size:
        raise InvalidInput("0 null values; draw the null over at least 1 feature")
    band = band_of(counts)
    bands = len(BAND_EDGES) + 1
    found = np.zeros(bands)
    for number in range(bands):
        for reach in range(bands):
            pool = values[np.abs(band - number) <= reach]
            if pool.size >= BAND_LEAST or reach == bands - 1:
                found[number] = np.quantile(pool, quantile)
                break
    return BandQuantiles(edges=np.asarray(BAND_EDGES, dtype=np.int64), value=found)


def half_moments(half: Half) -> tuple[Moments, Moments]:
    """Return the moments of both dictionaries over the rows of a half."""
    return moments(half.a), moments(half.b.T.tocsr())
