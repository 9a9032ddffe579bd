"""A penalty that brings dead features back: how far they are from firing, on every row."""

from typing import NamedTuple

import torch
from torch import Tensor

from isogloss.dictionaries.kinds.kind import StepBatch
from isogloss.dictionaries.kinds.optimise import column_sums, ordered_sum
from isogloss.kernels import product


class Revived(NamedTuple):
    """A penalty on dead features, and its gradients to them."""

    value: float
    """``weight mean sum_i ReLU(limit_i - pre_i)``, over the dead features i; 0 where none is."""
    features: Tensor | None
    """The dead features, int64 ``[dead]``; None: there are none, or the weight is 0."""
    totals: Tensor
    """Gradients to their biases, ``[dead]``; those to their limits are the opposite."""
    rows: Tensor | None
    """Gradients to their encoder rows, ``[dead, width]``."""


def revive(
    batch: StepBatch,
    centred: Tensor,
    encoder: Tensor,
    bias: Tensor,
    limits: Tensor | float,
    weight: float,
) -> Revived:
    """Return the penalty of a batch (Anthropic, January 2025 update).

    A feature that fires on no row gets no gradient from the loss. This one pulls it towards firing
    wherever its pre-activation is below the limit.

    Args:
        batch: the batch of this step, with the dead features.
        centred: scaled rows less what is subtracted before encoding, ``[rows, width]``.
        encoder: directions to read, ``[features, width]``.
        bias: of each feature.
        limits: pre-activation above which each feature fires, ``[features]`` or one for all.
        weight: of the penalty.
    """
    if batch.dead is None or weight == 0:
        return Revived(0.0, None, bias.new_zeros(0), None)
    dead = batch.dead.nonzero().squeeze(1)
    pre = product(centred, encoder[dead].T, bias[dead])
    own = limits[dead] if isinstance(limits, Tensor) else limits
    missing = (own - pre).clamp(min=0.0)
    slope = torch.where(missing > 0, -weight / len(centred), 0.0)
    value = weight * ordered_sum(missing.reshape(-1)) / len(centred)
    return Revived(value, dead, column_sums(slope), product(slope.T, centred))
