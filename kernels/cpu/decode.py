# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped)
"""decode and decode_loss on the CPU, by numba: a row belongs to one thread."""

import torch
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.loops.entries import row_offsets
from isogloss.kernels.cpu.loops.sums import dot
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.values.codes import Codes


def decode(codes: Codes, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``isogloss.kernels.decode``: ``[rows, width]`` in the dtype of ``weight``."""
    out = torch.empty(codes.rows, weight.shape[1])
    start = torch.zeros(weight.shape[1]) if bias is None else bias.float()
    with parallel_loops():
        _decode_rows(
            codes.values.detach().float().reshape(-1).numpy(),
            codes.indices.reshape(-1).numpy(),
            row_offsets(codes).numpy(),
            weight.float().numpy(),
            start.numpy(),
            out.numpy(),
        )
    return out.to(weight.dtype)


def decode_loss(
    codes: Codes, weight: Tensor, bias: Tensor | None, target: Tensor
) -> tuple[Tensor, Tensor]:
    """``isogloss.kernels.decode_loss``: squared norms ``[rows]`` and residual, both float32."""
    residual = torch.empty(codes.rows, weight.shape[1])
    squares = torch.empty(codes.rows)
    start = torch.zeros(weight.shape[1]) if bias is None else bias.float()
    with parallel_loops():
        _decode_residuals(
            codes.values.float().reshape(-1).numpy(),
            codes.indices.reshape(-1).numpy(),
            row_offsets(codes).numpy(),
            weight.float().numpy(),
            start.numpy(),
            target.float().contiguous().numpy(),
            residual.numpy(),
            squares.numpy(),
        )
    return squares, residual


@njit(parallel=True, cache=True)
def _decode_rows(values, indices, offsets, weight, bias, out):
    rows, width = out.shape
    for row in prange(rows):
        total = out[row]
        for i in range(width):
            total[i] = bias[i]
        for j in range(offsets[row], offsets[row + 1]):
            value = values[j]
            direction = weight[indices[j]]
            if value != 0:
                for i in range(width):
                    total[i] += value * direction[i]


@njit(parallel=True, cache=True)
def _decode_residuals(values, indices, offsets, weight, bias, target, out, squares):
    rows, width = out.shape
    for row in prange(rows):
        total, aim = out[row], target[row]
        for i in range(width):
            total[i] = bias[i] - aim[i]
        for j in range(offsets[row], offsets[row + 1]):
            value = values[j]
            direction = weight[indices[j]]
            if value != 0:
                for i in range(width):
                    total[i] += value * direction[i]
        squares[row] = dot(total, total)
