# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""Gradients by Triton: entries sorted by feature, one program a feature, no float atomics.

The sort is stable. A feature with more than ``SEGMENT`` entries is split at the places of the
sorted list that are multiples of ``SEGMENT``. Its first program takes the entries before the first
of them, further programs the others into a buffer, and a last kernel adds those in order. So a
further program finds its feature by one load, and nothing is counted or summed up before. The same
bits under any schedule.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.gpu.configs import ROW_REGISTERS, register_limit
from isogloss.kernels.gpu.decode import _bounds, row_unit, row_warps
from isogloss.kernels.values.codes import Codes

SEGMENT = 64


class _Plan(NamedTuple):
    """The entries that each program takes."""

    order: Tensor
    """Entries in the order of their features, then rows, int64: as torch sorts."""
    rows: Tensor
    """Row of every entry (not sorted), int32, where it is no 32-bit division of the entry by k."""
    keys: Tensor
    """Feature of each place in ``order``, int32, rising; ``features`` for entries of value 0."""
    starts: Tensor
    """Position in ``order`` where each feature's entries begin, int32 or int64 ``[features + 1]``.
    """


def places_dtype(entries: int) -> torch.dtype:
    """Return int32 where it holds every place of the entries and the end of the last segment."""
    return torch.int32 if entries < (1 << 31) - SEGMENT else torch.int64


def _plan(codes: Codes) -> _Plan:
    """Sort the entries; those of value 0 go last and belong to nobody."""
    values, indices = codes.values.detach().reshape(-1), codes.indices.reshape(-1)
    device, entries = values.device, values.numel()
    keys = torch.where(values != 0, indices, codes.features)
    keys, order = torch.sort(keys, stable=True)
    wanted = torch.arange(codes.features + 1, dtype=torch.int32, device=device)
    starts = torch.searchsorted(keys, wanted, out_int32=places_dtype(entries) == torch.int32)
    rows = keys
    if codes.is_ragged or starts.dtype == torch.int64:
        lengths = codes.k if codes.offsets is None else codes.offsets.diff()
        every = torch.arange(codes.rows, dtype=torch.int32, device=device)
        rows = torch.repeat_interleave(every, lengths, output_size=entries)
    return _Plan(order, rows, keys, starts)


def further_programs(entries: int) -> int:
    """Programs besides the first of each feature: one at each multiple of ``SEGMENT``."""
    return max(0, entries - 1) // SEGMENT


def sparse_gradients(
    codes: Codes, grad: Tensor, x: Tensor, decoder: Tensor, features: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``isogloss.kernels.sparse_gradients``: to values, decoder, encoder, encoder bias; float32."""
    width, device = decoder.shape[1], decoder.device
    count = codes.features if features is None else features.numel()
    values = torch.zeros(codes.values.shape, device=device)
    to_decoder = torch.empty(count, width, device=device)
    to_encoder = torch.empty(count, width, device=device)
    to_bias = torch.empty(count, device=device)
    _launch(codes, grad, x, decoder, features, (values, to_decoder, to_encoder, to_bias))
    return values, to_decoder, to_encoder, to_bias


def feature_sums(codes: Codes, x: Tensor) -> tuple[Tensor, Tensor]:
    """``sum value * x[row]`` and ``sum value`` over a feature's entries, float32."""
    sums = torch.empty(codes.features, x.shape[1], device=x.device)
    totals = torch.empty(codes.features, device=x.device)
    _launch(codes, x, None, None, None, (totals, sums, sums, totals))
    return sums, totals


def value_slopes(codes: Codes, grad: Tensor, weight: Tensor) -> Tensor:
    """``isogloss.kernels.gradients.value_slopes``: float32, shaped as the values."""
    out = torch.empty(codes.values.shape, device=weight.device)
    if codes.rows == 0:
        return out
    width = weight.shape[1]
    _slopes_kernel[(codes.rows,)](
        codes.indices.contiguous(),
        codes.indices if codes.offsets is None else codes.offsets,
        grad.contiguous(),
        weight,
        out,
        width,
        0 if codes.is_ragged else codes.k,
        RAGGED=codes.is_ragged,
        WIDTH=triton.next_power_of_2(width),
        UNIT=row_unit(width),
        num_warps=row_warps(width),
    )
    return out


def _launch(
    codes: Codes,
    grad: Tensor,
    x: Tensor | None,
    decoder: Tensor | None,
    features: Tensor | None,
    out: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """Fill ``out``; without ``decoder``, only sums of ``value * grad`` and ``value``."""
    plan, width = _plan(codes), grad.shape[1]
    count, further = out[1].shape[0], further_programs(plan.keys.numel())
    both, device, grad = decoder is not None, grad.device, grad.contiguous()
    values = codes.values.detach().contiguous()
    partial = torch.empty(further, 2 if both else 1, width, device=device)
    partial_bias = torch.empty(further, device=device)
    shape = {
        "BOTH": both,
        "WIDTH": triton.next_power_of_2(width),
        "UNIT": row_unit(width),
        "num_warps": row_warps(width),
    }
    if count + further == 0:
        return
    listed = plan.starts if features is None else features.to(torch.int32)
    _features_kernel[(count + further,)](
        *plan,
        listed,
        values,
        grad,
        grad if x is None else x.contiguous(),
        grad if decoder is None else decoder,
        *out,
        partial,
        partial_bias,
        count,
        codes.features,
        width,
        0 if codes.is_ragged else codes.k,
        RAGGED=plan.rows is not plan.keys,
        LISTED=features is not None,
        SEGMENT=SEGMENT,
        **shape,
    )
    if further and count:
        _add_parts_kernel[(count,)](
            plan.starts,
            listed,
            partial,
            partial_bias,
            *out[1:],
            width,
            LISTED=features is not None,
            SEGMENT=SEGMENT,
            **shape,
            **register_limit(device, ROW_REGISTERS),
        )


@triton.jit(do_not_specialize=("count",))
def _features_kernel(
    order_ptr,  # [entries] int64
    rows_ptr,  # [entries] int32, read when RAGGED; wanted where 32 bits do not hold every entry
    keys_ptr,  # [entries] int32
    starts_ptr,  # [features + 1], int32 where 32 bits hold every entry, else int64
    listed_ptr,  # [count] int32, read when LISTED
    values_ptr,  # [entries]
    grad_ptr,  # [rows, width]
    x_ptr,  # [rows, width], read when BOTH
    decoder_ptr,  # [features, width], read when BOTH
    to_values_ptr,  # out [entries], written when BOTH
    to_decoder_ptr,  # out [count, width]
    to_encoder_ptr,  # out [count, width], written when BOTH
    to_bias_ptr,  # out [count]
    partial_ptr,  # out [further programs, 1 + BOTH, width]
    partial_bias_ptr,  # out [further programs]
    count,
    features,
    width,
    k,
    RAGGED: tl.constexpr,
    LISTED: tl.constexpr,
    SEGMENT: tl.constexpr,
    BOTH: tl.constexpr,
    WIDTH: tl.constexpr,
    UNIT: tl.constexpr = 1,
):
    width = width // UNIT * UNIT  # tells the compiler what divides it
    program = tl.program_id(0)
    place = (program - count + 1).to(starts_ptr.dtype.element_ty) * SEGMENT
    is_first = program < count
    if is_first:
        feature = program
        if LISTED:
            feature = tl.load(listed_ptr + program)
    else:
        feature = tl.load(keys_ptr + place)
    chosen = tl.minimum(feature, features - 1).to(tl.int64)
    begin = tl.load(starts_ptr + chosen)
    end = tl.load(starts_ptr + chosen + 1)
    is_split = end - begin > SEGMENT
    if (feature < features) & (is_first | (is_split & (begin < place))):
        first = tl.where(is_first, begin, place)
        last = tl.where(is_split, tl.minimum(end, (first // SEGMENT + 1) * SEGMENT), end)
        column = tl.arange(0, WIDTH)
        inside = column < width
        of_decoder = tl.zeros([WIDTH], tl.float32)
        of_encoder = tl.zeros([WIDTH], tl.float32)
        of_bias = 0.0
        if first < last:
            if BOTH:
                direction = tl.load(decoder_ptr + chosen * width + column, mask=inside, other=0.0)
                direction = direction.to(tl.float32)
            for at in range(first, last):
                entry = tl.load(order_ptr + at)
                if RAGGED:
                    row = tl.load(rows_ptr + entry).to(tl.int64)
                else:  # entries fit 32 bits: a division of 64 is a subroutine of 70 instructions
                    row = (entry.to(tl.int32) // k).to(tl.int64)
                value = tl.load(values_ptr + entry).to(tl.float32)
                grad = tl.load(grad_ptr + row * width + column, mask=inside, other=0.0)
                grad = grad.to(tl.float32)
                of_decoder += value * grad
                if BOTH:
                    x = tl.load(x_ptr + row * width + column, mask=inside, other=0.0)
                    slope = tl.sum(grad * direction, axis=0)
                    of_encoder += slope * x.to(tl.float32)
                    of_bias += slope
                    tl.store(to_values_ptr + entry, slope)
                else:
                    of_bias += value
        if is_first:
            out = program.to(tl.int64) * width + column
            tl.store(to_decoder_ptr + out, of_decoder, mask=inside)
            if BOTH:
                tl.store(to_encoder_ptr + out, of_encoder, mask=inside)
            tl.store(to_bias_ptr + program, of_bias)
        else:
            slot = (program - count).to(tl.int64)
            out = slot * (1 + BOTH) * width + column
            tl.store(partial_ptr + out, of_decoder, mask=inside)
            if BOTH:
                tl.store(partial_ptr + out + width, of_encoder, mask=inside)
            tl.store(partial_bias_ptr + slot, of_bias)


@triton.jit
def _add_parts_kernel(
    starts_ptr,  # [features + 1] int32 or int64
    listed_ptr,  # [count] int32, read when LISTED
    partial_ptr,  # [further programs, 1 + BOTH, width]
    partial_bias_ptr,  # [further programs]
    to_decoder_ptr,  # in and out [count, width]
    to_encoder_ptr,  # in and out [count, width], when BOTH
    to_bias_ptr,  # in and out [count]
    width,
    LISTED: tl.constexpr,
    SEGMENT: tl.constexpr,
    BOTH: tl.constexpr,
    WIDTH: tl.constexpr,
    UNIT: tl.constexpr = 1,
):
    width = width // UNIT * UNIT  # tells the compiler what divides it
    program = tl.program_id(0)
    feature = program
    if LISTED:
        feature = tl.load(listed_ptr + program)
    begin = tl.load(starts_ptr + feature).to(tl.int64)
    end = tl.load(starts_ptr + feature + 1).to(tl.int64)
    if end - begin > SEGMENT:
        first = begin // SEGMENT
        last = (end - 1) // SEGMENT
        column = tl.arange(0, WIDTH)
        inside = column < width
        out = program.to(tl.int64) * width + column
        of_decoder = tl.load(to_decoder_ptr + out, mask=inside, other=0.0)
        of_bias = tl.load(to_bias_ptr + program)
        if BOTH:
            of_encoder = tl.load(to_encoder_ptr + out, mask=inside, other=0.0)
        at = first * (1 + BOTH) * width + column
        for slot in range(first, last):
            of_decoder += tl.load(partial_ptr + at, mask=inside, other=0.0)
            of_bias += tl.load(partial_bias_ptr + slot)
            if BOTH:
                of_encoder += tl.load(partial_ptr + at + width, mask=inside, other=0.0)
            at += (1 + BOTH) * width
        tl.store(to_decoder_ptr + out, of_decoder, mask=inside)
        if BOTH:
            tl.store(to_encoder_ptr + out, of_encoder, mask=inside)
        tl.store(to_bias_ptr + program, of_bias)


@triton.jit
def _slopes_kernel(
    indices_ptr,  # [rows, k] or [entries], int32
    offsets_ptr,  # [rows + 1] int64, read when RAGGED
    grad_ptr,  # [rows, width]
    weight_ptr,  # [features, width]
    out_ptr,  # out, as indices, float32
    width,
    k,
    RAGGED: tl.constexpr,
    WIDTH: tl.constexpr,
    UNIT: tl.constexpr = 1,
):
    width = width // UNIT * UNIT  # tells the compiler what divides it
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = column < width
    grad = tl.load(grad_ptr + row * width + column, mask=inside, other=0.0).to(tl.float32)
    first, last = _bounds(offsets_ptr, row, k, RAGGED)
    for entry in range(first, last):
        feature = tl.load(indices_ptr + entry).to(tl.int64)
        direction = tl.load(weight_ptr + feature * width + column, mask=inside, other=0.0)
        tl.store(out_ptr + entry, tl.sum(grad * direction.to(tl.float32), axis=0))
