# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportCallIssue=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped, and
# counts a starred argument as one)
"""Co-activation on the CPU, by numba: a feature of the first dictionary belongs to one thread.

Its entries are walked row by row, and every entry of the other dictionary on that row is added to
an accumulator of all its features that stays in the core's own cache. Each sum runs over ascending
rows, that of a feature with many entries in parts, whatever the number of threads.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from isogloss.kernels.cpu.loops.entries import row_offsets, segments
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.values.coactivation import (
    Coactivation,
    FeatureMoments,
    Measure,
    PairSums,
    moment_part,
    pair_part_bits,
    refuse_repeats,
)
from isogloss.kernels.values.codes import Codes

_FEATURES = 64


class _ByRow(NamedTuple):
    """Entries of codes row by row, those of value 0 left out."""

    values: NDArray[np.float32]
    """``[entries]``."""
    indices: NDArray[np.int32]
    """``[entries]``."""
    offsets: NDArray[np.int64]
    """``[rows + 1]``."""


class _ByFeature(NamedTuple):
    """Entries of codes feature by feature, rows ascending, those of value 0 left out."""

    values: NDArray[np.float32]
    """``[entries]``."""
    rows: NDArray[np.int32]
    """``[entries]``."""
    starts: NDArray[np.int64]
    """``[features + 1]``."""


def _by_row(codes: Codes) -> _ByRow:
    values = codes.values.detach().float().reshape(-1)
    indices, offsets = codes.indices.reshape(-1), row_offsets(codes)
    kept = values != 0
    if not bool(kept.all()):
        places = torch.zeros(values.numel() + 1, dtype=torch.int64)
        torch.cumsum(kept, 0, out=places[1:])
        values, indices, offsets = values[kept], indices[kept], places[offsets]
    return _ByRow(values.numpy(), indices.numpy(), offsets.numpy())


def _by_feature(codes: Codes) -> _ByFeature:
    found = segments(codes)
    values = codes.values.detach().float().reshape(-1)[found.entries]
    return _ByFeature(values.numpy(), found.rows.numpy(), found.starts.numpy())


def feature_moments(codes: Codes, name: str) -> FeatureMoments:
    """``isogloss.kernels.feature_moments``; ``name`` is for its errors."""
    return _moments(codes, _by_row(codes), name)


def _moments(codes: Codes, entries: _ByRow, name: str) -> FeatureMoments:
    total, squares = (torch.zeros(codes.features, dtype=torch.float64) for _ in range(2))
    fires = torch.zeros(codes.features, dtype=torch.int64)
    part = moment_part(codes.rows)
    found = _sum_features(*entries, part, total.numpy(), squares.numpy(), fires.numpy())
    refuse_repeats(None if found[0] < 0 else (int(found[0]), int(found[1])), name, codes)
    return FeatureMoments(rows=codes.rows, total=total, squares=squares, fires=fires)


def best_partners(
    a: Codes, b: Codes, count: int, measure: Measure, min_cofires: int
) -> Coactivation:
    """``isogloss.kernels.coactivation`` on the CPU."""
    rows_b = _by_row(b)
    moments_a, moments_b = feature_moments(a, "codes_a"), _moments(b, rows_b, "codes_b")
    signed = bool((a.values < 0).any()) or bool((b.values < 0).any())
    by_pearson = measure == "pearson"
    if by_pearson:
        stats_a, stats_b = (
            torch.stack((side.total, side.inverse_spread), dim=1) for side in (moments_a, moments_b)
        )
    else:
        stats_a, stats_b = (
            torch.stack((side.fires.double(), side.fires.double()), dim=1)
            for side in (moments_a, moments_b)
        )
    indices = torch.full((a.features, count), -1, dtype=torch.int32)
    scores = torch.zeros(a.features, count, dtype=torch.float64)
    cofires = torch.zeros(a.features, count, dtype=torch.int32)
    entries_a = _by_feature(a)
    with parallel_loops():
        _best(
            entries_a,
            rows_b,
            pair_part_bits(entries_a.values.size, b.features),
            stats_a.numpy(),
            stats_b.numpy(),
            float(a.rows),
            by_pearson,
            signed and by_pearson,
            min_cofires,
            indices.numpy(),
            scores.numpy(),
            cofires.numpy(),
        )
    return Coactivation(
        indices=indices, scores=scores, cofires=cofires, moments_a=moments_a, moments_b=moments_b
    )


def pair_sums(a: Codes, b: Codes, block: int) -> Iterator[PairSums]:
    """``isogloss.kernels.coactivation_blocks`` on the CPU."""
    feature_moments(a, "codes_a")
    rows_b = _by_row(b)
    _moments(b, rows_b, "codes_b")
    return _blocks(_by_feature(a), rows_b, a.features, b.features, block)


def _blocks(
    entries_a: _ByFeature, rows_b: _ByRow, features_a: int, features_b: int, block: int
) -> Iterator[PairSums]:
    bits = pair_part_bits(entries_a.values.size, features_b)
    for first in range(0, features_a, block):
        size = min(block, features_a - first)
        products = torch.zeros(size, features_b, dtype=torch.float64)
        cofires = torch.zeros(size, features_b, dtype=torch.int32)
        with parallel_loops():
            _sums(entries_a, rows_b, bits, first, products.numpy(), cofires.numpy())
        yield PairSums(first=first, products=products, cofires=cofires)


@njit(cache=True)
def _sum_features(values, indices, offsets, part, total, squares, fires):
    """Fill the moments, summed in parts; returns the last (row, feature) named twice, or (-1, -1).

    The sums of ``part`` entries of a feature are added to its whole sums, zeros on entry.
    """
    sums = np.zeros((total.size, 2), np.float64)
    last = np.full(total.size, -1, np.int64)
    found = (np.int64(-1), np.int64(-1))
    for row in range(offsets.size - 1):
        for i in range(offsets[row], offsets[row + 1]):
            f = indices[i]
            if last[f] == row:
                found = (np.int64(row), np.int64(f))
            last[f] = row
            value = np.float64(values[i])
            sums[f, 0] += value
            sums[f, 1] += value * value
            fires[f] += 1
            if fires[f] % part == 0:
                total[f] += sums[f, 0]
                squares[f] += sums[f, 1]
                sums[f] = 0.0
    for f in range(total.size):
        total[f] += sums[f, 0]
        squares[f] += sums[f, 1]
    return found


@njit(parallel=True, cache=True)
def _sums(entries_a, rows_b, bits, first, products, cofires):
    values_a, rows, starts = entries_a
    values_b, indices_b, offsets_b = rows_b
    for place in prange(products.shape[0]):
        begin, end = starts[first + place], starts[first + place + 1]
        in_parts = end - begin > 1 << bits
        together = cofires[place]
        sums = np.zeros(together.size) if in_parts else products[place]
        for t in range(begin, end):
            value = np.float64(values_a[t])
            for i in range(offsets_b[rows[t]], offsets_b[rows[t] + 1]):
                sums[indices_b[i]] += value * np.float64(values_b[i])
                together[indices_b[i]] += 1
            if in_parts and (t + 1 == end or (t + 1) >> bits << bits == t + 1):
                products[place] += sums
                sums[:] = 0.0


@njit(cache=True)
def _accumulate(begin, end, entries_a, rows_b, sums, touched):
    """Add up where a feature of dictionary A fires together with each feature of dictionary B.

    ``entries_a`` are A's entries ordered by feature: values, rows, and where each feature's entries
    start. ``rows_b`` are B's entries ordered by row: values, features, and where each row's entries
    start. For each row of the feature's entries from ``begin`` to ``end``, and each feature ``g``
    of B that fires on it, the product of their values is added to ``sums[g, 0]`` and 1 to
    ``sums[g, 1]``; ``sums`` must be zero before. The features of B that share such a row are
    written to ``touched``, and their number is returned.

    Array positions are unsigned integers here. numba checks a signed one for a negative index,
    which took 1.37 times as long.
    """
    values_a, rows, _ = entries_a
    values_b, indices_b, offsets_b = rows_b
    met = 0
    for t in range(begin, end):
        value = np.float64(values_a[t])
        row = np.uintp(rows[t])
        for i in range(np.uintp(offsets_b[row]), np.uintp(offsets_b[row + np.uintp(1)])):
            g = np.uintp(indices_b[i])
            together = sums[g, 1]
            touched[met] = indices_b[i]
            met += together == 0
            sums[g, 0] += value * np.float64(values_b[i])
            sums[g, 1] = together + 1
    return met


@njit(cache=True)
def _accumulate_parts(f, entries_a, rows_b, bits, sums, touched):
    """:func:`_accumulate` for all entries of feature ``f``: see ``pair_part_bits``."""
    begin, end = entries_a[2][f], entries_a[2][f + 1]
    if end - begin <= 1 << bits:
        return _accumulate(begin, end, entries_a, rows_b, sums, touched)
    part, fresh, met = np.zeros_like(sums), np.empty_like(touched), 0
    while begin < end:
        last = min(end, ((begin >> bits) + 1) << bits)
        for t in range(_accumulate(begin, last, entries_a, rows_b, part, fresh)):
            g = fresh[t]
            if sums[g, 1] == 0:
                touched[met] = g
                met += 1
            sums[g, 0] += part[g, 0]
            sums[g, 1] += part[g, 1]
            part[g] = 0.0
        begin = last
    return met


@njit(cache=True)
def _insert(score, g, rows, scores, indices, cofires):
    """Put a partner that beats the last one into its place."""
    j = scores.size - 1
    while j > 0 and (score > scores[j - 1] or (score == scores[j - 1] and g < indices[j - 1])):
        scores[j], indices[j], cofires[j] = scores[j - 1], indices[j - 1], cofires[j - 1]
        j -= 1
    scores[j], indices[j], cofires[j] = score, g, rows


@njit(parallel=True, cache=True)
def _best(
    entries_a,
    rows_b,
    bits,
    stats_a,
    stats_b,
    n,
    by_pearson,
    every,
    min_cofires,
    indices,
    scores,
    cofires,
):
    features_a, features_b = stats_a.shape[0], stats_b.shape[0]
    # features of a block are strided: those of dictionaries ordered by frequency share the work
    blocks = (features_a + _FEATURES - 1) // _FEATURES
    for block in prange(blocks):
        sums = np.zeros((features_b, 2), np.float64)
        touched = np.empty(features_b + 1, np.int32)
        for f in range(block, features_a, blocks):
            met = _accumulate_parts(f, entries_a, rows_b, bits, sums, touched)
            total, scale = stats_a[f, 0], stats_a[f, 1]
            best, partners, rows = scores[f], indices[f], cofires[f]
            last = best.size - 1
            for t in range(features_b if every else met):
                g = np.uintp(t if every else touched[t])
                product, together = sums[g, 0], sums[g, 1]
                sums[g, 0] = 0.0
                sums[g, 1] = 0.0
                if by_pearson:
                    covariance = product * n - total * stats_b[g, 0]
                    score = min(covariance * stats_b[g, 1] * scale, 1.0)
                else:
                    score = together / (total + stats_b[g, 0] - together)
                if score <= 0 or score < best[last] or together < min_cofires:
                    continue
                partner = np.int32(g)
                if score > best[last] or partner < partners[last]:
                    _insert(score, partner, np.int32(together), best, partners, rows)
