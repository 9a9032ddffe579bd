"""encode_batch_topk, dense."""

import torch
from torch import Tensor

from isogloss.kernels.reference.threshold import entries_of


def encode_batch_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ``k * rows`` largest positive ``pre = x @ weight.T + bias`` of the whole batch.

    Ties are broken by (row ascending, feature ascending); NaN ranks above infinity.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
        k: mean entries a row.

    Returns:
        values, indices and offsets as :func:`encode_threshold`, and the smallest value chosen (0
        where none is).
    """
    pre = x @ weight.T + bias
    flat = torch.relu(pre).flatten()
    best = torch.sort(flat, descending=True, stable=True).indices[: k * x.shape[0]]
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[best] = flat[best] != 0
    values, indices, offsets = entries_of(pre, chosen.view_as(pre))
    held = flat.detach()[best][chosen[best]]  # descending
    threshold = held[-1] if held.numel() else pre.new_zeros(())
    return values, indices, offsets, threshold
