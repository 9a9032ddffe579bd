"""The training step composed of this room's other operations: for devices without a fused one."""

import torch
from torch import Tensor

from isogloss.kernels.aux_codes import encode_among
from isogloss.kernels.codes import Codes
from isogloss.kernels.encode import encode_topk
from isogloss.kernels.gradients import SparseGradients, sparse_gradients
from isogloss.kernels.reconstruct import decode
from isogloss.kernels.reference import AdamSettings, adam, normalise_rows, project_rows
from isogloss.kernels.step_types import Moments, StepResult, StepSettings, Weights
from isogloss.kernels.workspace import Workspace


def train_step(
    x: Tensor,
    weights: Weights,
    moments: Moments,
    settings: StepSettings,
    step: int,
    candidates: Tensor | None,
    workspace: Workspace,
) -> StepResult:
    """``isogloss.kernels.train_step_topk`` anywhere; ``candidates``: the dead features, int32."""
    centred = x - weights.decoder_bias
    codes, aux_codes = _encode(centred, weights, settings, candidates, workspace)
    residual = decode(codes, weights.decoder, weights.decoder_bias) - x
    squared_error = float(residual.square().sum(1).mean())
    downhill = residual * (2 / (x.shape[0] * settings.variance))
    found = sparse_gradients(codes, downhill, centred, weights.decoder)
    gradients = Weights(
        encoder=found.encoder,
        encoder_bias=found.encoder_bias,
        decoder=found.decoder,
        decoder_bias=downhill.sum(0),
    )
    aux_loss = 0.0
    if aux_codes is not None and candidates is not None:
        share = min(candidates.numel() / settings.aux_k, 1.0)
        aux_loss, extra = _aux(centred, residual, weights, settings, aux_codes, share)
        if extra is not None and extra.features is not None:
            gradients.encoder[extra.features] += extra.encoder
            gradients.encoder_bias[extra.features] += extra.encoder_bias
            gradients.decoder[extra.features] += extra.decoder
    gradients.decoder_bias.sub_(gradients.encoder_bias @ weights.encoder)
    _update(weights, moments, gradients, settings, step)
    active = codes.indices[codes.values != 0]
    fired = torch.bincount(active.reshape(-1), minlength=weights.features)
    return StepResult(
        squared_error=squared_error,
        loss=squared_error / settings.variance + settings.aux_coefficient * aux_loss,
        aux_loss=aux_loss,
        fired=fired.to(torch.int32),
    )


def _encode(
    centred: Tensor,
    weights: Weights,
    settings: StepSettings,
    candidates: Tensor | None,
    workspace: Workspace,
) -> tuple[Codes, Codes | None]:
    """Codes of every row, and those among the candidates from the same pre-activations."""
    encoder, bias = weights.encoder, weights.encoder_bias
    if candidates is None:
        return encode_topk(centred, encoder, bias, settings.k, workspace=workspace), None
    aux_k = min(settings.aux_k, candidates.numel())
    found = encode_among(centred, encoder, bias, settings.k, candidates, aux_k, workspace)
    return found.codes, found.aux


def _aux(
    centred: Tensor,
    residual: Tensor,
    weights: Weights,
    settings: StepSettings,
    codes: Codes,
    share: float,
) -> tuple[float, SparseGradients | None]:
    """AuxK of those codes and its gradients to the rows of the features that fire in them."""
    spread = float((residual - residual.mean(0)).square().sum())
    if spread == 0:
        return 0.0, None
    error = decode(codes, weights.decoder) + residual  # the target is x - xhat
    scale = share / spread
    downhill = error * (2 * settings.aux_coefficient * scale)
    found = sparse_gradients(codes, downhill, centred, weights.decoder, touched_rows_only=True)
    return scale * float(error.square().sum()), found


def _update(
    weights: Weights, moments: Moments, gradients: Weights, settings: StepSettings, step: int
) -> None:
    constants = AdamSettings(
        learning_rate=settings.learning_rate,
        beta1=settings.beta1,
        beta2=settings.beta2,
        epsilon=settings.epsilon,
    )
    first, second = moments.first.named(), moments.second.named()
    for name, gradient in gradients.named().items():
        parameter = weights.named()[name]
        if name == "decoder" and settings.unit_norm:
            gradient = project_rows(gradient, parameter)
        adam(parameter, first[name], second[name], gradient, constants, step)
    if settings.unit_norm:
        weights.decoder.copy_(normalise_rows(weights.decoder))
