# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles this function from the arguments it meets; pyright sees it untyped)
"""decode_prefixes on the CPU, by numba: a row belongs to one thread."""

import torch
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.loops.entries import row_offsets
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.values.codes import Codes


def decode_prefixes(
    codes: Codes, weight: Tensor, edges: tuple[int, ...], bias: Tensor | None
) -> Tensor:
    """``isogloss.kernels.decode_prefixes``: ``[prefixes, rows, width]`` in ``weight``'s dtype."""
    out = torch.empty(len(edges), codes.rows, weight.shape[1])
    start = torch.zeros(weight.shape[1]) if bias is None else bias.float()
    with parallel_loops():
        _prefix_rows(
            codes.values.float().reshape(-1).numpy(),
            codes.indices.reshape(-1).numpy(),
            row_offsets(codes).numpy(),
            torch.tensor(edges, dtype=torch.int32).numpy(),
            weight.float().numpy(),
            start.numpy(),
            out.numpy(),
        )
    return out.to(weight.dtype)


@njit(parallel=True, cache=True)
def _prefix_rows(values, indices, offsets, edges, weight, start, out):
    width = weight.shape[1]
    for row in prange(out.shape[1]):
        lower = 0
        for p in range(edges.size):
            own = out[p, row]
            shorter = start if p == 0 else out[p - 1, row]
            for i in range(width):
                own[i] = shorter[i]
            for entry in range(offsets[row], offsets[row + 1]):
                feature = indices[entry]
                value = values[entry]
                if lower <= feature < edges[p] and value != 0:
                    for i in range(width):
                        own[i] += value * weight[feature, i]
            lower = edges[p]
