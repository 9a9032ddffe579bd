"""Sums in one order, and Adam on every parameter, for kinds that sum gradients themselves.

The bits of a run may not depend on the number of threads. torch's sum of a whole tensor and its
matrix-vector products do depend on it; what is here does not.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from isogloss.dictionaries.kinds.kind import StepBatch
from isogloss.kernels import (
    Codes,
    DescentSettings,
    EntryGradients,
    descend_entries,
    feature_sums,
)

BETA2 = 0.99
"""Decay of Adam's second moment: 0.999 cost 0.0012 of FVU in runs of some hundred steps."""
EPSILON = 1e-8
"""Added to the root of Adam's second moment, where the loss is not divided by the variance."""


def clip_bound(clip_norm: float | None, variance: float) -> float | None:
    """Return the bound on the gradient that a kind's ``clip_norm`` means; None: there is none.

    None asks for ``1 / variance``: losses here are divided by the variance, so that is the bound 1
    for the plain squared error. 0 asks for no bound.
    """
    if clip_norm is None:
        return 1 / variance
    return clip_norm or None


def ordered_sum(parts: Tensor) -> float:
    """Return the sum of a vector, in float64, by numpy in one thread."""
    return float(parts.to(torch.float64).cpu().numpy().sum())


def column_sums(rows: Tensor) -> Tensor:
    """Return the sum of ``[rows, width]`` over its rows, summed in float64 by one thread."""
    return torch.from_numpy(rows.to(torch.float64).cpu().numpy().sum(axis=0)).to(rows)


def feature_totals(codes: Codes) -> Tensor:
    """Return the sum of each feature's values, float32 ``[features]``, summed in one order."""
    if codes.values.is_cuda:
        return feature_sums(codes, codes.values.new_zeros(codes.rows, 1))[1]
    found = np.bincount(
        codes.indices.reshape(-1).numpy(),
        weights=codes.values.reshape(-1).numpy(),
        minlength=codes.features,
    )
    return torch.from_numpy(found).float()


def share_of_warmup(step: int, total_steps: int, warmup: float) -> float:
    """Return how much of a penalty counts at a step, from 1: it rises linearly over ``warmup``."""
    rising = round(warmup * total_steps)
    return 1.0 if step >= rising else step / rising


def descend(
    tensors: Mapping[str, Tensor],
    gradients: EntryGradients,
    batch: StepBatch,
    *,
    unit_norm: bool,
    clip_norm: float | None,
    adam: str,
) -> None:
    """Take one step of Adam (0.9, 0.99, 1e-8 / Var) on every parameter, in place.

    Args:
        tensors: ``weights.NAME``, ``first.NAME`` and ``second.NAME`` of each parameter; where
            ``input_bias`` is among them, the decoder bias is not subtracted before encoding, and
            ``gradients.through`` is left out.
        gradients: of the loss.
        batch: the batch of this step.
        unit_norm: project the gradient of ``decoder`` orthogonal to its rows, and divide these by
            their norms after the step.
        clip_norm: the kind's setting, see :func:`clip_bound`.
        adam: the kind's setting: ``lazy`` leaves features without a gradient as they are.
    """
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "first": {}, "second": {}}
    for name, tensor in tensors.items():
        group, sign, parameter = name.partition(".")
        if sign and group in groups:
            groups[group][parameter] = tensor
    if "input_bias" in tensors:
        gradients = replace(gradients, through=None)
    descend_entries(
        groups["weights"],
        groups["first"],
        groups["second"],
        gradients,
        DescentSettings(
            learning_rate=batch.learning_rate,
            beta2=BETA2,
            epsilon=EPSILON / batch.variance,
            unit_norm=unit_norm,
            clip_norm=clip_bound(clip_norm, batch.variance),
            lazy=adam == "lazy",
        ),
        step=batch.step,
        columns=batch.columns,
        workspace=batch.workspace,
    )
