"""One optimiser step of a TopK sparse autoencoder."""

import torch
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import checks
from isogloss.kernels.dispatch import takes_triton
from isogloss.kernels.step_types import Moments, StepResult, StepSettings, Weights
from isogloss.kernels.workspace import Workspace


def train_step_topk(
    x: Tensor,
    weights: Weights,
    moments: Moments,
    settings: StepSettings,
    *,
    step: int,
    dead: Tensor | None = None,
    workspace: Workspace | None = None,
) -> StepResult:
    """Take one full optimiser step, in place on ``weights`` and ``moments``.

    ``pre = (x - decoder_bias) @ encoder.T + encoder_bias``; codes = relu of the top k;
    ``xhat = codes @ decoder + decoder_bias``; ``loss = mean |xhat - x|^2 / variance +
    aux_coefficient * aux_loss``. AuxK (Gao et al. 2024, arXiv:2406.04093) reconstructs the residual
    ``x - xhat`` (held fixed, without the decoder bias) from the best ``aux_k`` dead features of
    each row: ``aux_loss = min(dead / aux_k, 1) * sum |z @ decoder - residual|^2 /
    sum |residual - its mean|^2``; its gradient reaches encoder and decoder. Adam is exact: every
    row of every matrix moves. With ``unit_norm`` the decoder's gradient is projected orthogonal to
    its rows, and they are divided by their norms after the step.

    On the CPU one fused step: pre-activations exist for a chunk of rows at a time and gradients for
    a feature at a time. The same bits on every run and with any number of threads.

    Args:
        x: ``[rows, width]``, float32 (bfloat16 and float16 are converted).
        weights: changed in place.
        moments: changed in place.
        settings: see :class:`StepSettings`.
        step: number of this step, from 1 (Adam's bias correction).
        dead: bool ``[features]``, the features AuxK may use; None for no AuxK.
        workspace: scratch memory to reuse between calls.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: ``k`` is above the number of features, ``step`` below 1, there are no rows, or
            weights that this function did not make itself hold NaN or infinity.
    """
    _check(x, weights, moments, settings, step, dead)
    scratch = workspace or Workspace()
    candidates = None
    if dead is not None and settings.aux_k > 0 and bool(dead.any()):
        candidates = dead.nonzero().squeeze(1).to(torch.int32)
    with torch.no_grad():
        if takes_triton(x):
            from isogloss.kernels.unfused import train_step as composed

            found = composed(x.float(), weights, moments, settings, step, candidates, scratch)
        else:
            from isogloss.kernels.cpu.step import train_step as fused

            found = fused(x.float(), weights, moments, settings, step, candidates, scratch)
    checks.stepped(*weights.named().values())
    return found


def _check(
    x: Tensor,
    weights: Weights,
    moments: Moments,
    settings: StepSettings,
    step: int,
    dead: Tensor | None,
) -> None:
    checks.matrix("x", x, columns=weights.width)
    checks.floating(x=x)
    if x.shape[0] < 1:
        raise ShapeError("x has no rows; at least 1 is wanted")
    checks.one_device(x=x, encoder=weights.encoder, moments=moments.first.encoder)
    checks.k_within(settings.k, weights.features)
    checks.finite(**weights.named())
    for moment in (moments.first, moments.second):
        checks.matrix("moments", moment.encoder, rows=weights.features, columns=weights.width)
    if dead is not None:
        checks.vector("dead", dead, weights.features)
        checks.exactly("dead", dead, torch.bool)
    if step < 1:
        raise InvalidInput(f"step is {step}; steps count from 1")
