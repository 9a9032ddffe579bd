"""decode_prefixes, dense."""

import torch
from torch import Tensor

from isogloss.kernels.reference.decode import decode


def decode_prefixes(
    values: Tensor,
    indices: Tensor,
    weight: Tensor,
    prefixes: tuple[int, ...],
    bias: Tensor | None = None,
) -> Tensor:
    """:func:`decode` of the entries whose feature is below each prefix: ``[prefixes, ...]``."""
    kept = [torch.where(indices < prefix, values, 0) for prefix in prefixes]
    return torch.stack([decode(part, indices, weight, bias) for part in kept])
