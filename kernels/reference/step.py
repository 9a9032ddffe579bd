"""The loss of the training step, dense, and the equations of its optimiser.

The loss is for the tests. The optimiser's equations also serve ``kernels/step.py``, where the step
is composed for devices without a fused one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


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

    Returns:
        The loss and its terms.
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
