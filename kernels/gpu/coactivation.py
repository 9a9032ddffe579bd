# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""Co-activation by Triton: a program compares one feature with a chunk of the other dictionary.

It walks the feature's rows in order and adds what the other dictionary has there, within its chunk,
to float64 sums in registers. So that a program finds those entries at once, the other dictionary's
codes are sorted by (chunk, row). A feature with many entries is cut into parts (``pair_part_bits``)
whose sums further programs write before, so that no program is busy long after the others. Every
sum has one owner and one order: no atomics, the same bits under any schedule, and those of the CPU.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.gpu.configs import register_limit
from isogloss.kernels.values.coactivation import (
    MOMENT_PARTS,
    Coactivation,
    FeatureMoments,
    Measure,
    PairSums,
    moment_part,
    pair_part_bits,
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


class _Parts(NamedTuple):
    """Sums of all parts of features but the first of each; written where there is such a part."""

    products: Tensor
    """float64 ``[parts, features_b]``."""
    cofires: Tensor
    """int32 ``[parts, features_b]``."""
    bits: int
    """The entries, sorted by feature, are cut at the multiples of two to that power."""


def _by_feature(codes: Codes, rows: Tensor) -> tuple[_Entries, Tensor]:
    """The entries, and the feature of each, rising."""
    keys, order = torch.sort(codes.indices, stable=True)
    return _Entries(codes.values[order], rows[order].int(), _starts(keys, codes.features)), keys


def _by_chunk(codes: Codes, rows: Tensor, chunk: int) -> _Entries:
    chunks = triton.cdiv(codes.features, chunk)
    keys = (codes.indices // chunk).long() * codes.rows + rows
    keys, order = torch.sort(keys, stable=True)
    places = (codes.indices % chunk)[order]
    return _Entries(codes.values[order], places, _starts(keys, chunks * codes.rows))


def feature_moments(codes: Codes, name: str) -> FeatureMoments:
    """``isogloss.kernels.feature_moments``; ``name`` is for its errors."""
    ragged, rows = _sorted(codes, name)
    return _moments(codes, _by_feature(ragged, rows)[0])


def _moments(codes: Codes, entries: _Entries) -> FeatureMoments:
    device = codes.values.device
    total, squares = (
        torch.empty(codes.features, dtype=torch.float64, device=device) for _ in range(2)
    )
    _moments_kernel[(codes.features,)](
        entries.values,
        entries.starts,
        total,
        squares,
        moment_part(codes.rows),
        PARTS=MOMENT_PARTS,
        num_warps=1,
    )
    return FeatureMoments(
        rows=codes.rows, total=total, squares=squares, fires=entries.starts.diff().long()
    )


def best_partners(
    a: Codes, b: Codes, count: int, measure: Measure, min_cofires: int, chunk: int = CHUNK
) -> Coactivation:
    """``isogloss.kernels.coactivation``: candidates of every chunk, then a stable sort of those."""
    ragged_b, rows_b = _sorted(b, "codes_b")
    entries_a, keys_a = _by_feature(*_sorted(a, "codes_a"))
    moments_a, moments_b = _moments(a, entries_a), _moments(b, _by_feature(ragged_b, rows_b)[0])
    entries_b = _by_chunk(ragged_b, rows_b, chunk)
    parts = _part_sums(keys_a, entries_a, entries_b, (a.rows, b.features), chunk)
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
            *parts,
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
            **register_limit(device),
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
    entries_a, keys_a = _by_feature(*_sorted(a, "codes_a"))
    entries_b = _by_chunk(*_sorted(b, "codes_b"), chunk)
    parts = _part_sums(keys_a, entries_a, entries_b, (a.rows, b.features), chunk)
    return _blocks(a, b, (*entries_a, *entries_b, *parts), block, chunk)


def _part_sums(
    keys: Tensor, entries_a: _Entries, entries_b: _Entries, sizes: tuple[int, int], chunk: int
) -> _Parts:
    """Sums of the parts of features that have many entries; ``sizes``: rows and features of b."""
    rows, features_b = sizes
    entries, device = keys.numel(), keys.device
    bits = pair_part_bits(entries, features_b)
    count = max(0, entries - 1) >> bits
    products = torch.empty(count, features_b, dtype=torch.float64, device=device)
    cofires = torch.empty(count, features_b, dtype=torch.int32, device=device)
    if count:
        _parts_kernel[(count, triton.cdiv(features_b, chunk))](
            *entries_a,
            *entries_b,
            products,
            cofires,
            bits,
            keys,
            rows,
            features_b,
            CHUNK=chunk,
            num_warps=WARPS,
            **register_limit(device),
        )
    return _Parts(products, cofires, bits)


def _blocks(
    a: Codes, b: Codes, sources: tuple[Tensor | int, ...], block: int, chunk: int
) -> Iterator[PairSums]:
    device = a.values.device
    for first in range(0, a.features, block):
        size = min(block, a.features - first)
        products = torch.empty(size, b.features, dtype=torch.float64, device=device)
        cofires = torch.empty(size, b.features, dtype=torch.int32, device=device)
        _sums_kernel[(size, triton.cdiv(b.features, chunk))](
            *sources,
            products,
            cofires,
            first,
            a.rows,
            b.features,
            CHUNK=chunk,
            num_warps=WARPS,
            **register_limit(device),
        )
        yield PairSums(first=first, products=products, cofires=cofires)


@triton.jit
def _moments_kernel(
    values_ptr,  # [entries], by feature
    starts_ptr,  # [features + 1]
    total_ptr,  # out [features] float64
    squares_ptr,  # out [features] float64
    size,  # entries of a part
    PARTS: tl.constexpr,
):
    """A lane sums a part of the feature's entries by rows; then the parts are added in order."""
    feature = tl.program_id(0).to(tl.int64)
    first = tl.load(starts_ptr + feature)
    count = tl.load(starts_ptr + feature + 1) - first
    part = tl.arange(0, PARTS)
    totals = tl.zeros([PARTS], tl.float64)
    squares = tl.zeros([PARTS], tl.float64)
    for step in range(tl.minimum(count, size)):
        at = part.to(tl.int64) * size + step
        value = tl.load(values_ptr + first + at, mask=at < count, other=0.0).to(tl.float64)
        totals += value
        squares += value * value
    total = tl.zeros([], tl.float64)
    square = tl.zeros([], tl.float64)
    for n in range((count + size - 1) // size):
        total += tl.sum(tl.where(part == n, totals, 0.0), axis=0)
        square += tl.sum(tl.where(part == n, squares, 0.0), axis=0)
    tl.store(total_ptr + feature, total)
    tl.store(squares_ptr + feature, square)


@triton.jit
def _pair_sums(
    values_a_ptr,
    rows_a_ptr,
    values_b_ptr,
    places_b_ptr,
    starts_b_ptr,
    first,
    last,
    chunk,  # int64
    rows,
    CHUNK: tl.constexpr,
):
    """Products and rows in common of entries of a feature with the features of a chunk."""
    lane = tl.arange(0, CHUNK)
    products = tl.zeros([CHUNK], tl.float64)
    cofires = tl.zeros([CHUNK], tl.int32)
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
def _parts_kernel(
    values_a_ptr,  # [entries], by feature
    rows_a_ptr,  # [entries] int32
    starts_a_ptr,  # [features_a + 1]
    values_b_ptr,  # [entries], by chunk and row
    places_b_ptr,  # [entries] int32
    starts_b_ptr,  # [chunks * rows + 1]
    products_ptr,  # out [parts, features_b] float64
    cofires_ptr,  # out [parts, features_b] int32
    bits,
    keys_ptr,  # [entries] int32: features, rising
    rows,
    features_b,
    CHUNK: tl.constexpr,
):
    slot = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1).to(tl.int64)
    place = (slot + 1) << bits
    feature = tl.load(keys_ptr + place).to(tl.int64)
    begin = tl.load(starts_a_ptr + feature).to(tl.int64)
    end = tl.load(starts_a_ptr + feature + 1).to(tl.int64)
    if ((end - begin) > (1 << bits)) & (begin < place):
        products, cofires = _pair_sums(
            values_a_ptr,
            rows_a_ptr,
            values_b_ptr,
            places_b_ptr,
            starts_b_ptr,
            place,
            tl.minimum(end, place + (1 << bits)),
            chunk,
            rows,
            CHUNK,
        )
        other = chunk * CHUNK + tl.arange(0, CHUNK)
        out = slot * features_b + other
        tl.store(products_ptr + out, products, mask=other < features_b)
        tl.store(cofires_ptr + out, cofires, mask=other < features_b)


@triton.jit
def _all_sums(
    values_a_ptr,
    rows_a_ptr,
    starts_a_ptr,
    values_b_ptr,
    places_b_ptr,
    starts_b_ptr,
    part_products_ptr,
    part_cofires_ptr,
    bits,
    feature,  # int64
    chunk,  # int64
    rows,
    features_b,
    CHUNK: tl.constexpr,
):
    """Products and rows in common of one feature with every feature of a chunk, ``[CHUNK]``."""
    begin = tl.load(starts_a_ptr + feature).to(tl.int64)
    end = tl.load(starts_a_ptr + feature + 1).to(tl.int64)
    last = tl.where((end - begin) > (1 << bits), ((begin >> bits) + 1) << bits, end)
    products, cofires = _pair_sums(
        values_a_ptr,
        rows_a_ptr,
        values_b_ptr,
        places_b_ptr,
        starts_b_ptr,
        begin,
        last,
        chunk,
        rows,
        CHUNK,
    )
    if last < end:
        other = chunk * CHUNK + tl.arange(0, CHUNK)
        for slot in range(begin >> bits, (end - 1) >> bits):
            at = slot * features_b + other
            products += tl.load(part_products_ptr + at, mask=other < features_b, other=0.0)
            cofires += tl.load(part_cofires_ptr + at, mask=other < features_b, other=0)
    return products, cofires


@triton.jit
def _sums_kernel(
    values_a_ptr,  # [entries], by feature
    rows_a_ptr,  # [entries] int32
    starts_a_ptr,  # [features_a + 1]
    values_b_ptr,  # [entries], by chunk and row
    places_b_ptr,  # [entries] int32
    starts_b_ptr,  # [chunks * rows + 1]
    part_products_ptr,  # [parts, features_b] float64
    part_cofires_ptr,  # [parts, features_b] int32
    bits,
    products_ptr,  # out [block, features_b] float64
    cofires_ptr,  # out [block, features_b] int32
    first_feature,
    rows,
    features_b,
    CHUNK: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1).to(tl.int64)
    products, cofires = _all_sums(
        values_a_ptr,
        rows_a_ptr,
        starts_a_ptr,
        values_b_ptr,
        places_b_ptr,
        starts_b_ptr,
        part_products_ptr,
        part_cofires_ptr,
        bits,
        place + first_feature,
        chunk,
        rows,
        features_b,
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
    part_products_ptr,  # [parts, features_b] float64
    part_cofires_ptr,  # [parts, features_b] int32
    bits,
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
    products, cofires = _all_sums(
        values_a_ptr,
        rows_a_ptr,
        starts_a_ptr,
        values_b_ptr,
        places_b_ptr,
        starts_b_ptr,
        part_products_ptr,
        part_cofires_ptr,
        bits,
        feature,
        chunk,
        rows,
        features_b,
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
