# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""decode_prefixes by Triton: a program takes one row and keeps its running sum in registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.gpu.decode import _bounds, row_unit, row_warps
from isogloss.kernels.values.codes import Codes
from isogloss.kernels.values.prefixes import edges_on


def decode_prefixes(
    codes: Codes, weight: Tensor, edges: tuple[int, ...], bias: Tensor | None
) -> Tensor:
    """``isogloss.kernels.decode_prefixes``: ``[prefixes, rows, width]`` in ``weight``'s dtype."""
    width, device = weight.shape[1], weight.device
    out = torch.empty(len(edges), codes.rows, width, dtype=weight.dtype, device=device)
    if codes.rows == 0:
        return out
    values = codes.values.contiguous()
    _prefixes_kernel[(codes.rows,)](
        values,
        codes.indices.contiguous(),
        values if codes.offsets is None else codes.offsets,
        edges_on(edges, device),
        weight,
        weight if bias is None else bias.contiguous(),
        out,
        codes.rows,
        len(edges),
        width,
        0 if codes.is_ragged else codes.k,
        RAGGED=codes.is_ragged,
        BIAS=bias is not None,
        WIDTH=triton.next_power_of_2(width),
        UNIT=row_unit(width),
        num_warps=row_warps(width),
    )
    return out


@triton.jit
def _prefixes_kernel(
    values_ptr,  # [rows, k] or [entries]
    indices_ptr,  # as values, int32
    offsets_ptr,  # [rows + 1] int64, read when RAGGED
    edges_ptr,  # [prefixes] int32, rising
    weight_ptr,  # [features, width]
    bias_ptr,  # [width], read when BIAS
    out_ptr,  # out [prefixes, rows, width]
    rows,
    prefixes,
    width,
    k,
    RAGGED: tl.constexpr,
    BIAS: tl.constexpr,
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
    lower = 0
    to = row
    for prefix in range(prefixes):
        upper = tl.load(edges_ptr + prefix)
        for entry in range(first, last):
            value = tl.load(values_ptr + entry).to(tl.float32)
            feature = tl.load(indices_ptr + entry)
            # most entries are of another prefix, and cost two loads that hit the first cache
            if (feature >= lower) & (feature < upper) & (value != 0):
                at = feature.to(tl.int64) * width + column
                direction = tl.load(weight_ptr + at, mask=inside, other=0.0)
                total += value * direction.to(tl.float32)
        tl.store(out_ptr + to * width + column, total.to(out_ptr.dtype.element_ty), mask=inside)
        lower = upper
        to += rows
