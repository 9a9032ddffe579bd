"""encode_topk on the CPU: a chunk of features at a time through torch's GEMM, then exact top-k."""

import torch
from torch import Tensor

from isogloss.kernels.cpu.loops.chunks import chunks
from isogloss.kernels.cpu.loops.select import fill_topk, merge_all
from isogloss.kernels.values.workspace import Workspace


def encode_topk(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: int,
    workspace: Workspace,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``isogloss.kernels.encode_topk``: values float32 and indices int32, both ``[rows, k]``.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
        k: entries a row.
        workspace: scratch memory to reuse between calls.
        scale: a factor of each feature's pre-activations, float32 ``[features]``; None: 1.

    Returns:
        Values and indices.
    """
    values = torch.zeros(x.shape[0], k)
    indices = torch.empty(x.shape[0], k, dtype=torch.int32)
    for chunk in chunks(x.float(), weight.float(), bias.float(), workspace, scale):
        merge_all(chunk.pre, chunk.size, chunk.start, values[chunk.rows], indices[chunk.rows])
    fill_topk(values, indices)
    return values, indices
