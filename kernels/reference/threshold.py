"""encode_threshold, dense."""

import torch
from torch import Tensor


def encode_threshold(
    x: Tensor, weight: Tensor, bias: Tensor, threshold: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Every ``pre = x @ weight.T + bias`` above ``threshold`` (``[features]`` or one); NaN fires.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
        threshold: ``[features]``, or one for all.

    Returns:
        values ``[entries]``, indices ``[entries]`` int64, offsets ``[rows + 1]`` int64; features
        ascend within a row.
    """
    pre = x @ weight.T + bias
    return entries_of(pre, ~(pre <= threshold))


def entries_of(pre: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, indices and offsets of the chosen entries of a dense matrix."""
    rows, indices = chosen.nonzero().unbind(1)
    offsets = torch.zeros(pre.shape[0] + 1, dtype=torch.int64)
    offsets[1:] = chosen.sum(1).cumsum(0)
    return pre[rows, indices], indices, offsets
