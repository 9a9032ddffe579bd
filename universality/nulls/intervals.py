"""Bootstrap intervals of correlations: sources of text are resampled, not rows.

Rows of one document depend on each other, and so do passages cut from one source: resampling rows
would give intervals far too narrow. r is a function of six sums, and sums over sources can be
reweighted, so 200 resamples cost one matrix product a sum and never touch the rows again.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.universality.nulls.strata import Strata, stratum_sums

_BLOCK_PAIRS = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervals:
    """Percentile intervals, each array ``[pairs]``."""

    low: NDArray[np.float64]
    """Lower end."""
    high: NDArray[np.float64]
    """Upper end."""


def bootstrap_intervals(
    a: sp.csr_array,
    b: sp.csr_array,
    feature_a: NDArray[np.integer],
    feature_b: NDArray[np.integer],
    sources: Strata,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Intervals:
    """Return percentile bootstrap intervals of the correlation of given pairs.

    A resample draws as many sources as there are, with replacement (Efron, 1979). A resample in
    which a feature is constant counts as r = 0.

    Args:
        a: feature-major codes of the first dictionary, ``[features_a, rows]``.
        b: feature-major codes of the second, ``[features_b, rows]``.
        feature_a: rows of ``a``, ``[pairs]``.
        feature_b: rows of ``b``, ``[pairs]``.
        sources: the source (file, book, page) of each row.
        resamples: how many resamples to draw.
        confidence: share of the resamples that an interval holds, in (0, 1).
        seed: seed of the resamples.

    Returns:
        The intervals, in the order of the pairs.

    Raises:
        InvalidInput: no resample, or a confidence outside (0, 1).
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise InvalidInput(
            f"resamples {resamples} must be at least 1 and confidence {confidence} in (0, 1)"
        )
    weights = _resample(sources, resamples, seed)
    rows = sources.counts @ weights
    low, high = np.zeros(len(feature_a)), np.zeros(len(feature_a))
    for start in range(0, len(feature_a), _BLOCK_PAIRS):
        part = slice(start, start + _BLOCK_PAIRS)
        r = _resampled_r(a[feature_a[part]], b[feature_b[part]], sources, weights, rows)
        tail = (1 - confidence) / 2
        low[part], high[part] = np.quantile(r, [tail, 1 - tail], axis=1)
    return Intervals(low=low, high=high)


def _resample(sources: Strata, resamples: int, seed: int) -> NDArray[np.float64]:
    """Return how often each source is drawn in each resample, ``[sources, resamples]``."""
    generator = np.random.default_rng(seed)
    even = np.full(sources.size, 1 / sources.size)
    return generator.multinomial(sources.size, even, size=resamples).T.astype(np.float64)


def _resampled_r(
    a: sp.csr_array,
    b: sp.csr_array,
    sources: Strata,
    weights: NDArray[np.float64],
    rows: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return r of each pair in each resample, ``[pairs, resamples]``."""

    def total(codes: sp.csr_array) -> NDArray[np.float64]:
        return np.asarray(stratum_sums(codes, sources) @ weights)

    sum_a, sum_b = total(a), total(b)
    spread_a = np.maximum(rows * total(a.multiply(a).tocsr()) - sum_a**2, 0.0)
    spread_b = np.maximum(rows * total(b.multiply(b).tocsr()) - sum_b**2, 0.0)
    covariance = rows * total(a.multiply(b).tocsr()) - sum_a * sum_b
    scale = np.sqrt(spread_a * spread_b)
    r = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.clip(r, -1.0, 1.0)
