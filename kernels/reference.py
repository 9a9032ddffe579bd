"""The mathematics of every kernel in plain torch: dense, obvious, any floating dtype.

What the tests trust. No operation falls back to it; only the optimiser's equations at the end are
used elsewhere, by the training step for devices without a fused one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def encode_topk(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of ``relu(x @ weight.T + bias)`` by (value descending, feature ascending).

    Returns:
        values ``[rows, k]`` and indices ``[rows, k]`` int64. NaN ranks above infinity.
    """
    activations = torch.relu(x @ weight.T + bias)
    order = torch.sort(activations, dim=1, descending=True, stable=True).indices[:, :k]
    return activations.gather(1, order), order


def encode_threshold(
    x: Tensor, weight: Tensor, bias: Tensor, threshold: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Every ``pre = x @ weight.T + bias`` above ``threshold`` (``[features]`` or one); NaN fires.

    Returns:
        values ``[entries]``, indices ``[entries]`` int64, offsets ``[rows + 1]`` int64; features
        ascend within a row.
    """
    pre = x @ weight.T + bias
    return _entries(pre, ~(pre <= threshold))


def encode_batch_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ``k * rows`` largest positive ``pre = x @ weight.T + bias`` of the whole batch.

    Ties are broken by (row ascending, feature ascending); NaN ranks above infinity.

    Returns:
        values, indices and offsets as :func:`encode_threshold`, and the smallest value chosen (0
        where none is).
    """
    pre = x @ weight.T + bias
    flat = torch.relu(pre).flatten()
    best = torch.sort(flat, descending=True, stable=True).indices[: k * x.shape[0]]
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[best] = flat[best] != 0
    values, indices, offsets = _entries(pre, chosen.view_as(pre))
    held = flat.detach()[best][chosen[best]]  # descending
    threshold = held[-1] if held.numel() else pre.new_zeros(())
    return values, indices, offsets, threshold


def _entries(pre: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows, indices = chosen.nonzero().unbind(1)
    offsets = torch.zeros(pre.shape[0] + 1, dtype=torch.int64)
    offsets[1:] = chosen.sum(1).cumsum(0)
    return pre[rows, indices], indices, offsets


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


def decode(values: Tensor, indices: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``out[row] = bias + sum_j values[row, j] * weight[indices[row, j]]``."""
    out = (values.unsqueeze(-1) * weight[indices.long()]).sum(dim=1)
    return out if bias is None else out + bias


def decode_ragged(values: Tensor, indices: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """:func:`decode` of codes whose rows differ in their number of entries."""
    rows = torch.repeat_interleave(torch.arange(offsets.numel() - 1), offsets.diff())
    out = torch.zeros(offsets.numel() - 1, weight.shape[1], dtype=weight.dtype)
    return out.index_add(0, rows, values.unsqueeze(-1) * weight[indices.long()])


def sparse_gradients(
    values: Tensor, indices: Tensor, grad: Tensor, x: Tensor, decoder: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a loss whose gradient to the reconstruction is ``grad``.

    With ``a[row, f]`` the dense codes and ``d = (a != 0) * (grad @ decoder.T)``: values ``d`` at
    the entries, decoder ``a.T @ grad``, encoder ``d.T @ x``, encoder bias the column sums of ``d``.
    """
    features = decoder.shape[0]
    dense = torch.zeros(values.shape[0], features, dtype=values.dtype)
    dense.scatter_(1, indices.long(), values)
    slope = (dense != 0) * (grad @ decoder.T)
    return slope.gather(1, indices.long()), dense.T @ grad, slope.T @ x, slope.sum(0)


@dataclass(frozen=True, kw_only=True)
class TopKLoss:
    """Terms of the loss of a TopK dictionary."""

    squared_error: Tensor
    """Mean over rows of the squared norm of the residual."""
    aux: Tensor
    """AuxK, scaled by ``min(dead features / aux_k, 1)``; 0 when no feature is dead."""
    loss: Tensor
    """``squared_error / variance + aux_coefficient * aux``."""
    activations: Tensor
    """``[rows, features]``: activations after TopK and ReLU."""


def topk_loss(
    x: Tensor,
    parameters: tuple[Tensor, Tensor, Tensor, Tensor],
    *,
    k: int,
    variance: float,
    aux_k: int = 0,
    aux_coefficient: float = 1 / 32,
    dead: Tensor | None = None,
) -> TopKLoss:
    """Loss of Gao et al. 2024 (arXiv:2406.04093), dense.

    Args:
        x: ``[rows, width]``.
        parameters: encoder and its bias, decoder (both ``[features, width]``) and its bias.
        k: features kept a row.
        variance: total variance of the data, which the squared error is divided by.
        aux_k: dead features that AuxK may use on a row.
        aux_coefficient: weight of AuxK.
        dead: bool ``[features]``.
    """
    encoder, encoder_bias, decoder, decoder_bias = parameters
    pre = (x - decoder_bias) @ encoder.T + encoder_bias
    activations = _keep_topk(pre, k)
    residual = x - (activations @ decoder + decoder_bias)
    squared_error = residual.square().sum(1).mean()
    aux = torch.zeros((), dtype=x.dtype)
    if dead is not None and aux_k > 0 and bool(dead.any()):
        target = residual.detach()
        candidates = dead.nonzero().squeeze(1)
        kept = _keep_topk(pre[:, candidates], min(aux_k, candidates.numel()))
        error = kept @ decoder[candidates] - target
        spread = (target - target.mean(0)).square().sum()
        if float(spread) != 0:
            scale = min(candidates.numel() / aux_k, 1.0)
            aux = scale * error.square().sum() / spread
    return TopKLoss(
        squared_error=squared_error,
        aux=aux,
        loss=squared_error / variance + aux_coefficient * aux,
        activations=activations,
    )


def _keep_topk(pre: Tensor, k: int) -> Tensor:
    activations = torch.relu(pre)
    order = torch.sort(activations, dim=1, descending=True, stable=True).indices[:, :k]
    return activations * torch.zeros_like(activations).scatter(1, order, 1.0)


@dataclass(frozen=True, kw_only=True)
class AdamSettings:
    """Constants of Adam."""

    learning_rate: float
    """Step size."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.999
    """Decay of the second moment."""
    epsilon: float = 1e-8
    """Added to the root of the second moment."""


def adam(
    parameter: Tensor,
    first: Tensor,
    second: Tensor,
    gradient: Tensor,
    settings: AdamSettings,
    step: int,
) -> None:
    """One step of Adam (arXiv:1412.6980) in place; ``step`` counts from 1."""
    first.mul_(settings.beta1).add_(gradient, alpha=1 - settings.beta1)
    second.mul_(settings.beta2).addcmul_(gradient, gradient, value=1 - settings.beta2)
    root = (second / (1 - settings.beta2**step)).sqrt_().add_(settings.epsilon)
    parameter.addcdiv_(first, root, value=-settings.learning_rate / (1 - settings.beta1**step))


def project_rows(gradient: Tensor, weight: Tensor) -> Tensor:
    """Remove from each row of ``gradient`` its part along the same row of ``weight``."""
    squared = weight.square().sum(1, keepdim=True)
    share = (gradient * weight).sum(1, keepdim=True) / torch.where(squared > 0, squared, 1)
    return gradient - share * weight


def normalise_rows(weight: Tensor) -> Tensor:
    """Each row divided by its norm; zero rows stay zero."""
    norm = weight.norm(dim=1, keepdim=True)
    return weight / torch.where(norm > 0, norm, 1)
