"""The training step composed of this room's other operations: for devices without a fused one."""

import torch
from torch import Tensor

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
    codes = encode_topk(
        centred, weights.encoder, weights.encoder_bias, settings.k, workspace=workspace
    )
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
    if candidates is not None:
        aux_loss, extra = _aux(centred, residual, weights, settings, candidates, workspace)
        if extra is not None:
            at = candidates.long()
            gradients.encoder[at] += extra.encoder
            gradients.encoder_bias[at] += extra.encoder_bias
            gradients.decoder[at] += extra.decoder
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


def _aux(
    centred: Tensor,
    residual: Tensor,
    weights: Weights,
    settings: StepSettings,
    candidates: Tensor,
    workspace: Workspace,
) -> tuple[float, SparseGradients | None]:
    """AuxK and its gradients to the rows of the candidates."""
    spread = float((residual - residual.mean(0)).square().sum())
    if spread == 0:
        return 0.0, None
    at = candidates.long()
    decoder = weights.decoder[at]
    codes: Codes = encode_topk(
        centred,
        weights.encoder[at],
        weights.encoder_bias[at],
        min(settings.aux_k, len(at)),
        workspace=workspace,
    )
    error = decode(codes, decoder) + residual  # the target is x - xhat
    scale = min(len(at) / settings.aux_k, 1.0) / spread
    downhill = error * (2 * settings.aux_coefficient * scale)
    return scale * float(error.square().sum()), sparse_gradients(codes, downhill, centred, decoder)


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
