"""decode in plain torch, for either form of codes, in any floating dtype."""

import torch
from torch import Tensor


def decode(values: Tensor, indices: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``out[row] = bias + sum_j values[row, j] * weight[indices[row, j]]``."""
    out = (values.unsqueeze(-1) * weight[indices.long()]).sum(dim=1)
    return out if bias is None else out + bias


def decode_ragged(values: Tensor, indices: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """:func:`decode` of codes whose rows differ in their number of entries."""
    rows = torch.repeat_interleave(torch.arange(offsets.numel() - 1), offsets.diff())
    out = torch.zeros(offsets.numel() - 1, weight.shape[1], dtype=weight.dtype)
    return out.index_add(0, rows, values.unsqueeze(-1) * weight[indices.long()])
