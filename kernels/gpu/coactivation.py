# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""Co-activation by Triton: a program compares one feature with a chunk of the other dictionary.

It walks the feature's rows in order and adds what the other dictionary has there, within its chunk,
to float64 sums in registers. So that a program finds those entries at once, the other dictionary's
codes are sorted by (chunk, row). Every sum has one owner and one order: no atomics, the same bits
under any schedule, and those of the CPU.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.values.coactivation import (
    Coactivation,
    FeatureMoments,
    Measure,
    PairSums,
    refuse_repeats,
)
from isogloss.kernels.values.codes import Codes

CHUNK = 512
"""Features of the other dictionary that one program compares with: with 4 warps, 4 float64 sums and
4 counts a thread. More would read the offsets of fewer chunks, and spend more lanes on an entry."""

WARPS = 4
"""Warps of a program."""

_CANDIDATE_BYTES = 64 << 20
"""Candidates of all chunks that wait at once for being merged."""


class _Entries(NamedTuple):
    """Entries in the order of some key, then row, then feature; those of value 0 left out."""

    values: Tensor
    """``[entries]``."""
    others: Tensor
    """Row of each entry, or its feature's place within the chunk; int32 ``[entries]``."""
    starts: Tensor
    """Where each key's entries begin, int32 or int64 ``[keys + 1]``."""


def _sorted(codes: Codes, name: str) -> tuple[Codes, Tensor]:
    """Canonical ragged codes and the row of each entry, int64."""
    ragged = codes.to_ragged()
    offsets = ragged.offsets
    if offsets is None:  # to_ragged always has them; this is for the type checker
        offsets = torch.zeros(codes.rows + 1, dtype=torch.int64, device=codes.values.device)
    every = torch.arange(codes.rows, device=codes.values.device)
    rows = torch.repeat_interleave(every, offsets.diff(), output_size=ragged.values.numel())
    again = ((rows.diff() == 0) & (ragged.indices.diff() == 0)).nonzero()
    if again.numel():
        at = int(again[-1, 0])
        refuse_repeats((int(rows[at]), int(ragged.indices[at])), name, codes)
    return ragged, rows


def _starts(keys: Tensor, count: int) -> Tensor:
    wanted = torch.arange(count + 1, dtype=keys.dtype, device=keys.device)
    return torch.searchsorted(keys, wanted, out_int32=keys.numel() < 1 << 31)


def _by_feature(codes: Codes, rows: Tensor) -> _Entries:
    keys, order = torch.sort(codes.indices, stable=True)
    return _Entries(codes.values[order], rows[order].int(), _starts(keys, codes.features))


def _by_chunk(codes: Codes, rows: Tensor, chunk: int) -> _Entries:
    chunks = triton.cdiv(codes.features, chunk)
    keys = (codes.indices // chunk).long() * codes.rows + rows
    keys, order = torch.sort(keys, stable=True)
    places = (codes.indices % chunk)[order]
    return _Entries(codes.values[order], places, _starts(keys, chunks * codes.rows))


def feature_moments(codes: Codes, name: str) -> FeatureMoments:
    """``isogloss.kernels.feature_moments``; ``name`` is for its errors."""
    ragged, rows = _sorted(codes, name)
    return _moments(codes, _by_feature(ragged, rows))


def _moments(codes: Codes, entries: _Entries) -> FeatureMoments:
    device = codes.values.device
    total, squares = (
        torch.empty(codes.features, dtype=torch.float64, device=device) for _ in range(2)
    )
    _moments_kernel[(codes.features,)](entries.values, entries.starts, total, squares, num_warps=1)
    return FeatureMoments(
        rows=codes.rows, total=total, squares=squares, fires=entries.starts.diff().long()
    )


def best_partners(
    a: Codes, b: Codes, count: int, measure: Measure, min_cofires: int, chunk: int = CHUNK
) -> Coactivation:
    """``isogloss.kernels.coactivation``: candidates of every chunk, then a stable sort of those."""
    ragged_b, rows_b = _sorted(b, "codes_b")
    entries_a = _by_feature(*_sorted(a, "codes_a"))
    moments_a, moments_b = _moments(a, entries_a), _moments(b, _by_feature(ragged_b, rows_b))
    entries_b = _by_chunk(ragged_b, rows_b, chunk)
    stats_a, stats_b = (
        torch.stack((side.total, side.inverse_spread, side.fires.double()))
        for side in (moments_a, moments_b)
    )
    device = a.values.device
    indices = torch.empty(a.features, count, dtype=torch.int32, device=device)
    scores = torch.empty(a.features, count, dtype=torch.float64, device=device)
    cofires = torch.empty(a.features, count, dtype=torch.int32, device=device)
    chunks, kept = triton.cdiv(b.features, chunk), min(count, chunk)
    block = max(1, _CANDIDATE_BYTES // (16 * chunks * kept))
    for first in range(0, a.features, block):
        size = min(block, a.features - first)
        found = (
            torch.empty(size, chunks, kept, dtype=torch.float64, device=device),
            torch.empty(size, chunks, kept, dtype=torch.int32, device=device),
            torch.empty(size, chunks, kept, dtype=torch.int32, device=device),
        )
        _partners_kernel[(size, chunks)](
            *entries_a,
            *entries_b,
            stats_a,
            stats_b,
            *found,
            first,
            a.rows,
            a.features,
            b.features,
            kept,
            min_cofires,
            PEARSON=measure == "pearson",
            CHUNK=chunk,
            num_warps=WARPS,
        )
        offered = found[0].view(size, -1)
        order = torch.sort(offered, dim=1, descending=True, stable=True).indices[:, :count]
        part = slice(first, first + size)
        scores[part] = offered.gather(1, order)
        indices[part] = found[1].view(size, -1).gather(1, order)
        cofires[part] = found[2].view(size, -1).gather(1, order)
    return Coactivation(
        indices=indices, scores=scores, cofires=cofires, moments_a=moments_a, moments_b=moments_b
    )


def pair_sums(a: Codes, b: Codes, block: int, chunk: int = CHUNK) -> Iterator[PairSums]:
    """``isogloss.kernels.coactivation_blocks``."""
    entries_a = _by_feature(*_sorted(a, "codes_a"))
    entries_b = _by_chunk(*_sorted(b, "codes_b"), chunk)
    return _blocks(a, b, entries_a, entries_b, block, chunk)


def _blocks(
    a: Codes, b: Codes, entries_a: _Entries, entries_b: _Entries, block: int, chunk: int
) -> Iterator[PairSums]:
    device = a.values.device
    for first in range(0, a.features, block):
        size = min(block, a.features - first)
        products = torch.empty(size, b.features, dtype=torch.float64, device=device)
        cofires = torch.empty(size, b.features, dtype=torch.int32, device=device)
        _sums_kernel[(size, triton.cdiv(b.features, chunk))](
            *entries_a,
            *entries_b,
            products,
            cofires,
            first,
            a.rows,
            b.features,
            CHUNK=chunk,
            num_warps=WARPS,
        )
        yield PairSums(first=first, products=products, cofires=cofires)


@triton.jit
def _moments_kernel(
    values_ptr,  # [entries], by feature
    starts_ptr,  # [features + 1]
    total_ptr,  # out [features] float64
    squares_ptr,  # out [features] float64
):
    feature = tl.program_id(0).to(tl.int64)
    first = tl.load(starts_ptr + feature)
    last = tl.load(starts_ptr + feature + 1)
    total = tl.zeros([], tl.float64)
    squares = tl.zeros([], tl.float64)
    for at in range(first, last):
        value = tl.load(values_ptr + at).to(tl.float64)
        total += value
        squares += value * value
    tl.store(total_ptr + feature, total)
    tl.store(squares_ptr + feature, squares)


@triton.jit
def _pair_sums(
    values_a_ptr,
    rows_a_ptr,
    starts_a_ptr,
    values_b_ptr,
    places_b_ptr,
    starts_b_ptr,
    feature,  # int64
    chunk,  # int64
    rows,
    CHUNK: tl.constexpr,
):
    """Products and rows in common of one feature with every feature of a chunk, ``[CHUNK]``."""
    lane = tl.arange(0, CHUNK)
    products = tl.zeros([CHUNK], tl.float64)
    cofires = tl.zeros([CHUNK], tl.int32)
    first = tl.load(starts_a_ptr + feature)
    last = tl.load(starts_a_ptr + feature + 1)
    for at in range(first, last):
        value = tl.load(values_a_ptr + at).to(tl.float64)
        key = chunk * rows + tl.load(rows_a_ptr + at)
        begin = tl.load(starts_b_ptr + key)
        end = tl.load(starts_b_ptr + key + 1)
        for entry in range(begin, end):
            product = value * tl.load(values_b_ptr + entry).to(tl.float64)
            met = lane == tl.load(places_b_ptr + entry)
            products += tl.where(met, product, 0.0)
            cofires += met.to(tl.int32)
    return products, cofires


@triton.jit
def _sums_kernel(
    values_a_ptr,  # [entries], by feature
    rows_a_ptr,  # [entries] int32
    starts_a_ptr,  # [features_a + 1]
    values_b_ptr,  # [entries], by chunk and row
    places_b_ptr,  # [entries] int32
    starts_b_ptr,  # [chunks * rows + 1]
    products_ptr,  # out [block, features_b] float64
    cofires_ptr,  # out [block, features_b] int32
    first_feature,
    rows,
    features_b,
    CHUNK: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1).to(tl.int64)
    products, cofires = _pair_sums(
        values_a_ptr,
        rows_a_ptr,
        starts_a_ptr,
        values_b_ptr,
        places_b_ptr,
        starts_b_ptr,
        place + first_feature,
        chunk,
        rows,
        CHUNK,
    )
    other = chunk * CHUNK + tl.arange(0, CHUNK)
    out = place * features_b + other
    tl.store(products_ptr + out, products, mask=other < features_b)
    tl.store(cofires_ptr + out, cofires, mask=other < features_b)


@triton.jit
def _partners_kernel(
    values_a_ptr,  # [entries], by feature
    rows_a_ptr,  # [entries] int32
    starts_a_ptr,  # [features_a + 1]
    values_b_ptr,  # [entries], by chunk and row
    places_b_ptr,  # [entries] int32
    starts_b_ptr,  # [chunks * rows + 1]
    stats_a_ptr,  # [3, features_a] float64: total, inverse spread, firings
    stats_b_ptr,  # [3, features_b] float64
    scores_ptr,  # out [block, chunks, kept] float64, descending
    indices_ptr,  # out [block, chunks, kept] int32, -1 for none
    together_ptr,  # out [block, chunks, kept] int32
    first_feature,
    rows,
    features_a,
    features_b,
    kept,
    min_cofires,
    PEARSON: tl.constexpr,
    CHUNK: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1).to(tl.int64)
    feature = place + first_feature
    products, cofires = _pair_sums(
        values_a_ptr,
        rows_a_ptr,
        starts_a_ptr,
        values_b_ptr,
        places_b_ptr,
        starts_b_ptr,
        feature,
        chunk,
        rows,
        CHUNK,
    )
    lane = tl.arange(0, CHUNK)
    other = chunk * CHUNK + lane
    inside = other < features_b
    stats = stats_b_ptr + other
    if PEARSON:
        total = tl.load(stats, mask=inside, other=0.0)
        inverse = tl.load(stats + features_b, mask=inside, other=0.0)
        covariance = products * rows - tl.load(stats_a_ptr + feature) * total
        score = covariance * inverse * tl.load(stats_a_ptr + features_a + feature)
        score = tl.minimum(score, 1.0)
    else:
        fires = tl.load(stats + 2 * features_b, mask=inside, other=0.0)
        both = cofires.to(tl.float64)
        either = fires + tl.load(stats_a_ptr + 2 * features_a + feature) - both
        score = both / tl.where(either > 0, either, 1.0)
    score = tl.where(inside & (score > 0) & (cofires >= min_cofires), score, 0.0)
    out = (place * tl.num_programs(1) + chunk) * kept
    for slot in range(kept):
        top, at = tl.max(score, axis=0, return_indices=True)
        partner = tl.where(top > 0, chunk * CHUNK + at, -1)
        together = tl.sum(tl.where(lane == at, cofires, 0), axis=0)
        tl.store(scores_ptr + out + slot, top)
        tl.store(indices_ptr + out + slot, partner.to(tl.int32))
        tl.store(together_ptr + out + slot, tl.where(top > 0, together, 0))
        score = tl.where(lane == at, -1.0, score)
