"""encode_topk, dense."""

import torch
from torch import Tensor


def encode_topk(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of ``relu(x @ weight.T + bias)`` by (value descending, feature ascending).

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
        k: entries a row.

    Returns:
        values ``[rows, k]`` and indices ``[rows, k]`` int64. NaN ranks above infinity.
    """
    activations = torch.relu(x @ weight.T + bias)
    order = torch.sort(activations, dim=1, descending=True, stable=True).indices[:, :k]
    return activations.gather(1, order), order
