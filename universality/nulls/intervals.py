"""Intervals of correlations by leaving out one source of text after the other.

Rows of one document depend on each other, and so do documents of one source: what is left out is a
whole source. A delete-one-source jackknife (Quenouille 1949, Tukey 1958) works on a scale on which
a correlation of non-negative sparse codes is nearly symmetric,

    h(x) = log((x + k) / (1 - x)),   sd² = (S - 1) / S Σ (h_(-s) - mean)²

with a t quantile whose degrees of freedom fall where few of the S sources decide. k is the depth to
which such codes can be anticorrelated; with k = 1 the scale is Fisher's. Percentile, BCa and
studentised bootstraps fall short of what they promise here (``docs/matching.md``, section 3).
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import stdtrit

from isogloss.errors import InvalidInput
from isogloss.universality.correlation.moments import row_blocks
from isogloss.universality.nulls.strata import Strata, stratum_sums

LEAST_SOURCES = 20
"""Fewer sources give no interval: how much sources differ cannot be told from so few."""

LOOSE_COFIRES = 10
"""With fewer co-firings the truth often lies above the upper end."""

LOOSE_FIRES = 10.0
"""The same with fewer effective firings: a few strong rows decide r, and where none of them fell
together, nothing in the text tells how often they would."""

_DEPTH = 0.02
"""k of the scale for r."""

_BLOCK_CELLS = 1 << 20
"""Pairs times sources in one block: 8 MB an array."""

_CONSTANT = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervals:
    """Two-sided intervals, each array ``[pairs]``; NaN where there is none."""

    low: Floats
    """Lower end."""
    high: Floats
    """Upper end."""


def correlation_intervals(
    a: sp.csr_array,
    b: sp.csr_array,
    feature_a: NDArray[np.integer],
    feature_b: NDArray[np.integer],
    sources: Strata,
    *,
    confidence: float = 0.95,
) -> Intervals:
    """Return intervals of the correlation of given pairs.

    Args:
        a: feature-major codes of the first dictionary, ``[features_a, rows]``.
        b: feature-major codes of the second, ``[features_b, rows]``.
        feature_a: rows of ``a``, ``[pairs]``.
        feature_b: rows of ``b``, ``[pairs]``.
        sources: the source (file, book, page) of each row.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        The intervals, in the order of the pairs: NaN with fewer than ``LEAST_SOURCES`` sources or
        where a feature is constant. Below ``LOOSE_COFIRES`` co-firings, or ``LOOSE_FIRES``
        effective firings of either, the upper end may be too low.

    Raises:
        InvalidInput: a confidence outside (0, 1).
    """
    found = Intervals(low=np.full(len(feature_a), np.nan), high=np.full(len(feature_a), np.nan))
    check_confidence(confidence)
    if sources.size < LEAST_SOURCES:
        return found
    for start, stop in row_blocks(len(feature_a), max(1, _BLOCK_CELLS // sources.size)):
        part = slice(start, stop)
        sums = _source_sums(a[feature_a[part]], b[feature_b[part]], sources)
        total = sums.sum(axis=2)
        r, varies = _pearson(total)
        deleted, _ = _pearson(total[:, :, None] - sums)
        squares = np.maximum(total[3:5, :, None], 1e-300)
        share = (sums[3:5] / squares).mean(axis=0)
        low, high = jackknife(r, deleted, share, depth=_DEPTH, confidence=confidence)
        found.low[part] = np.where(varies, low, np.nan)
        found.high[part] = np.where(varies, high, np.nan)
    return found


def jackknife(
    value: Floats, deleted: Floats, share: Floats, *, depth: float, confidence: float
) -> tuple[Floats, Floats]:
    """Return the ends of delete-one-source intervals of correlations.

    The degrees of freedom are the least of S - 1, Satterthwaite's for Σ psi² and the number of
    sources that hold the activations, 1 / Σ share² - 1; at least 1.

    Args:
        value: the correlation, ``[pairs]``.
        deleted: the same without each of the sources, ``[pairs, sources]``.
        share: what each source holds of the sums of squares, ``[pairs, sources]``, sums to 1.
        depth: k of the scale. Pairs with values below -k/2 take 1.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        Lower and upper ends, each ``[pairs]``.
    """
    sources = deleted.shape[1]
    shallow = np.minimum(value, deleted.min(axis=1)) > -depth / 2
    k = np.where(shallow, depth, 1.0)
    on_scale = _to_scale(deleted, k[:, None])
    psi = on_scale - on_scale.mean(axis=1, keepdims=True)
    psi *= psi
    squares, fourth = psi.sum(axis=1), (psi * psi).sum(axis=1)
    even = np.divide(fourth, squares**2, out=np.ones_like(squares), where=squares > 0)
    satterthwaite = 2 / np.maximum(even - 1 / sources, 1e-12)
    holding = 1 / np.maximum((share**2).sum(axis=1), 1e-12) - 1
    freedom = np.clip(np.minimum(satterthwaite, holding), 1.0, sources - 1.0)
    half = stdtrit(freedom, (1 + confidence) / 2) * np.sqrt((sources - 1) / sources * squares)
    middle = _to_scale(value, k)
    return _from_scale(middle - half, k), _from_scale(middle + half, k)


def effective_firings(features: sp.csr_array) -> Floats:
    """Return by how many firings of equal size each feature's variance is held, ``[features]``.

    (Σa²)² / Σa⁴, Kish's effective sample size with the squares as weights: the number of firings
    where all are of one size, 1 where one is huge. 0 for a feature that never fires.

    Args:
        features: feature-major codes, ``[features, rows]``.
    """
    squares = features.multiply(features).tocsr()
    second = np.asarray(squares.sum(axis=1), np.float64)
    fourth = np.asarray(squares.multiply(squares).sum(axis=1), np.float64)
    return np.divide(second**2, fourth, out=np.zeros_like(second), where=fourth > 0)


def check_confidence(confidence: float) -> None:
    """Raise InvalidInput for a confidence outside (0, 1)."""
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence {confidence} must lie in (0, 1)")


def _source_sums(a: sp.csr_array, b: sp.csr_array, sources: Strata) -> Floats:
    """Return n, Σa, Σb, Σa², Σb², Σab of each pair and source, ``[6, pairs, sources]``."""
    both = a.multiply(b).tocsr()
    parts = (a, b, a.multiply(a).tocsr(), b.multiply(b).tocsr(), both)
    summed = [stratum_sums(part, sources).toarray() for part in parts]
    return np.stack([np.broadcast_to(sources.counts, summed[0].shape).astype(float), *summed])


def _pearson(sums: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return r from the six sums (0 where a feature is constant), and whether both vary."""
    n, a, b, aa, bb, ab = sums
    spread_a, spread_b = n * aa - a * a, n * bb - b * b
    varies = (spread_a > _CONSTANT * n * aa) & (spread_b > _CONSTANT * n * bb)
    scale = np.sqrt(np.where(varies, spread_a * spread_b, 1.0))
    return np.where(varies, np.clip((n * ab - a * b) / scale, -1.0, 1.0), 0.0), varies


def _to_scale(x: Floats, k: Floats) -> Floats:
    return np.log(np.maximum(x + k, 1e-9) / np.maximum(1 - x, 1e-9))


def _from_scale(y: Floats, k: Floats) -> Floats:
    odds = np.exp(np.clip(y, -50, 50))
    return np.clip((odds - k) / (1 + odds), -1.0, 1.0)
