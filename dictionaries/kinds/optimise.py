"""Sums in one order, and Adam on every parameter, for kinds that sum gradients themselves.

The bits of a run may not depend on the number of threads. torch's sum of a whole tensor and its
matrix-vector products do depend on it; what is here does not.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from isogloss.kernels import Codes, adam_step, decode, feature_sums, inside_columns


def ordered_sum(parts: Tensor) -> float:
    """Return the sum of a vector, in float64, by numpy in one thread."""
    return float(parts.to(torch.float64).cpu().numpy().sum())


def column_sums(rows: Tensor) -> Tensor:
    """Return the sum of ``[rows, width]`` over its rows, summed in float64 by one thread."""
    return torch.from_numpy(rows.to(torch.float64).cpu().numpy().sum(axis=0)).to(rows)


def feature_totals(codes: Codes) -> Tensor:
    """Return the sum of each feature's values, float32 ``[features]``."""
    nothing = codes.values.new_zeros(codes.rows, 1)
    return feature_sums(codes, nothing)[1]


def weighted_rows(weights: Tensor, matrix: Tensor) -> Tensor:
    """Return ``weights @ matrix`` of ``[features]`` and ``[features, width]``, in one order."""
    features = matrix.shape[0]
    every = torch.arange(features, dtype=torch.int32, device=matrix.device)
    codes = Codes(values=weights[None], indices=every[None], features=features)
    return decode(codes, matrix)[0]


def bias_gradient(tensors: Mapping[str, Tensor], downhill: Tensor, of_bias: Tensor) -> Tensor:
    """Return the gradient of the decoder bias.

    It is added after decoding; where the rows read are those reconstructed, it is also subtracted
    before encoding.

    Args:
        tensors: of the run; ``input_bias`` among them says that other rows are reconstructed.
        downhill: gradient to the reconstruction, ``[rows, target_width]``.
        of_bias: gradient to what every feature reads, summed over the rows, ``[features]``.
    """
    sums = column_sums(downhill)
    if "input_bias" in tensors:
        return sums
    return sums - weighted_rows(of_bias, tensors["weights.encoder"])


def share_of_warmup(step: int, total_steps: int, warmup: float) -> float:
    """Return how much of a penalty counts at a step, from 1: it rises linearly over ``warmup``."""
    rising = round(warmup * total_steps)
    return 1.0 if step >= rising else step / rising


def descend(
    tensors: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    *,
    step: int,
    learning_rate: float,
    unit_norm: bool,
    clip_norm: float | None,
    columns: Tensor | None = None,
) -> None:
    """Take one step of exact Adam (0.9, 0.999, 1e-8) on every parameter, in place.

    Args:
        tensors: ``weights.NAME``, ``first.NAME`` and ``second.NAME`` of each parameter.
        gradients: by name.
        step: number of this step, from 1.
        learning_rate: step size.
        unit_norm: project the gradient of ``decoder`` orthogonal to its rows, and divide these by
            their norms after the step.
        clip_norm: bound on the Euclidean norm of all gradients together, after the projection.
        columns: columns of each feature, int64 ``[features, 2]``; elsewhere encoder and decoder
            have no gradient. None: all.
    """
    slopes = dict(gradients)
    if columns is not None:
        for name in ("encoder", "decoder"):
            inside = inside_columns(columns, slopes[name].shape[1])
            slopes[name] = torch.where(inside, slopes[name], 0.0)
    decoder = tensors["weights.decoder"]
    if unit_norm:
        squares = decoder.square().sum(1, keepdim=True)
        along = (slopes["decoder"] * decoder).sum(1, keepdim=True)
        slopes["decoder"] = slopes["decoder"] - along / squares.clamp(min=1e-30) * decoder
    if clip_norm is not None:
        squared = sum(ordered_sum(slope.double().square().reshape(-1)) for slope in slopes.values())
        if squared > clip_norm**2:
            shorter = clip_norm / squared**0.5
            slopes = {name: slope * shorter for name, slope in slopes.items()}
    for name, slope in slopes.items():
        adam_step(
            tensors[f"weights.{name}"],
            slope,
            tensors[f"first.{name}"],
            tensors[f"second.{name}"],
            step=step,
            learning_rate=learning_rate,
        )
    if unit_norm:
        decoder.div_(decoder.square().sum(1, keepdim=True).sqrt().clamp(min=1e-30))
