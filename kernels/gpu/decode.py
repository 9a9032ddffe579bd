# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""decode and decode_loss by Triton: a program takes one row."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.values.codes import Codes


def decode(codes: Codes, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``isogloss.kernels.decode``: ``[rows, width]`` in the dtype of ``weight``."""
    out = torch.empty(codes.rows, weight.shape[1], dtype=weight.dtype, device=weight.device)
    _launch(codes, weight, bias, None, out, None)
    return out


def decode_loss(
    codes: Codes, weight: Tensor, bias: Tensor | None, target: Tensor
) -> tuple[Tensor, Tensor]:
    """``isogloss.kernels.decode_loss``: squared norms ``[rows]`` and residual, both float32."""
    residual = torch.empty(codes.rows, weight.shape[1], device=weight.device)
    squares = torch.empty(codes.rows, device=weight.device)
    _launch(codes, weight, bias, target.contiguous(), residual, squares)
    return squares, residual


def _launch(
    codes: Codes,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor | None,
    out: Tensor,
    squares: Tensor | None,
) -> None:
    if codes.rows == 0:
        return
    width = weight.shape[1]
    values = codes.values.detach().contiguous()
    _decode_kernel[(codes.rows,)](
        values,
        codes.indices.contiguous(),
        values if codes.offsets is None else codes.offsets,
        weight,
        weight if bias is None else bias.contiguous(),
        weight if target is None else target,
        out,
        out if squares is None else squares,
        width,
        0 if codes.is_ragged else codes.k,
        RAGGED=codes.is_ragged,
        BIAS=bias is not None,
        LOSS=target is not None,
        WIDTH=triton.next_power_of_2(width),
        UNIT=row_unit(width),
        num_warps=row_warps(width),
    )


def row_unit(width: int) -> int:
    """Return the largest power of two up to 16 that divides a width.

    Rows of a matrix begin at multiples of so many elements, and a thread loads that many at once,
    up to 128 bits. Triton asks by itself only whether 16 divides a number.

    Args:
        width: columns of a contiguous matrix.

    Returns:
        1, 2, 4, 8 or 16.
    """
    return min(16, width & -width)


def row_warps(width: int) -> int:
    """Return how many warps hold a row of float32 in at most 16 registers a thread."""
    return max(1, min(16, triton.next_power_of_2(width) // 512))


@triton.jit
def _bounds(offsets_ptr, row, k, RAGGED: tl.constexpr):
    if RAGGED:
        first = tl.load(offsets_ptr + row)
        last = tl.load(offsets_ptr + row + 1)
    else:
        first = row * k
        last = first + k
    return first, last


@triton.jit
def _decode_kernel(
    values_ptr,  # [rows, k] or [entries]
    indices_ptr,  # as values, int32
    offsets_ptr,  # [rows + 1] int64, read when RAGGED
    weight_ptr,  # [features, width]
    bias_ptr,  # [width], read when BIAS
    target_ptr,  # [rows, width], read when LOSS
    out_ptr,  # out [rows, width]: the reconstruction, less the target when LOSS
    squares_ptr,  # out [rows], written when LOSS
    width,
    k,
    RAGGED: tl.constexpr,
    BIAS: tl.constexpr,
    LOSS: tl.constexpr,
    WIDTH: tl.constexpr,
    UNIT: tl.constexpr = 1,
):
    width = width // UNIT * UNIT  # tells the compiler what divides it
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = column < width
    total = tl.zeros([WIDTH], tl.float32)
    if BIAS:
        total += tl.load(bias_ptr + column, mask=inside, other=0.0).to(tl.float32)
    first, last = _bounds(offsets_ptr, row, k, RAGGED)
    for entry in range(first, last):
        value = tl.load(values_ptr + entry).to(tl.float32)
        feature = tl.load(indices_ptr + entry).to(tl.int64)
        mask = inside & (value != 0)
        direction = tl.load(weight_ptr + feature * width + column, mask=mask, other=0.0)
        total += value * direction.to(tl.float32)
    if LOSS:
        target = tl.load(target_ptr + row * width + column, mask=inside, other=0.0)
        total -= target.to(tl.float32)
        square = tl.where(inside, total * total, 0.0)
        tl.store(squares_ptr + row, tl.sum(square, axis=0))
    tl.store(out_ptr + row * width + column, total.to(out_ptr.dtype.element_ty), mask=inside)
