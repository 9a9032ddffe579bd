"""encode_topk on the CPU: torch's GEMM into a reused buffer, a chunk of rows at a time, then exact top-k."""

import torch
from torch import Tensor

from isogloss.kernels.cpu.select import select_topk
from isogloss.kernels.workspace import Workspace

_CHUNK_BYTES = 24 << 20


def chunk_rows(features: int) -> int:
    """Rows whose pre-activations fill one reused buffer of about 24 MiB, at most 512.

    A chunk that stays in the last-level cache between GEMM and selection is faster than one large
    GEMM (1.13 to 1.28 times on the machine of the prototypes).
    """
    return max(16, min(512, _CHUNK_BYTES // (4 * features)) // 16 * 16)


def encode_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, workspace: Workspace
) -> tuple[Tensor, Tensor]:
    """Values ``[rows, k]`` float32 and indices ``[rows, k]`` int32; see ``isogloss.kernels.encode_topk``."""
    rows, features = x.shape[0], weight.shape[0]
    values = torch.empty(rows, k)
    indices = torch.empty(rows, k, dtype=torch.int32)
    step = chunk_rows(features)
    directions, offset = weight.float().T, bias.float()
    for start in range(0, rows, step):
        chunk = x[start : start + step].float()
        pre = workspace.take("pre", (chunk.shape[0], features))
        torch.addmm(offset, chunk, directions, out=pre)
        select_topk(pre, k, values[start : start + step], indices[start : start + step])
    return values, indices
