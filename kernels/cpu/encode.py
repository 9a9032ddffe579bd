"""encode_topk on the CPU: a chunk of features at a time through torch's GEMM, then exact top-k."""

import torch
from torch import Tensor

from isogloss.kernels.cpu.loops.chunks import chunks
from isogloss.kernels.cpu.loops.select import fill_topk, merge_all
from isogloss.kernels.values.workspace import Workspace


def encode_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, workspace: Workspace
) -> tuple[Tensor, Tensor]:
    """``isogloss.kernels.encode_topk``: values float32 and indices int32, both ``[rows, k]``."""
    values = torch.zeros(x.shape[0], k)
    indices = torch.empty(x.shape[0], k, dtype=torch.int32)
    for chunk in chunks(x.float(), weight.float(), bias.float(), workspace):
        merge_all(chunk.pre, chunk.size, chunk.start, values[chunk.rows], indices[chunk.rows])
    fill_topk(values, indices)
    return values, indices
