"""One optimiser step of a TopK or BatchTopK dictionary."""

from typing import NamedTuple

import torch
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import cpu
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton
from isogloss.kernels.aux_topk import encode_among
from isogloss.kernels.batch_topk import encode_batch_topk
from isogloss.kernels.decode import decode
from isogloss.kernels.descend import descend_whole
from isogloss.kernels.encode import encode_topk
from isogloss.kernels.gradients import (
    SparseGradients,
    feature_sums,
    sparse_gradients,
    value_slopes,
)
from isogloss.kernels.prefixes import decode_prefixes
from isogloss.kernels.values.codes import Codes
from isogloss.kernels.values.descent import DescentSettings
from isogloss.kernels.values.prefixes import by_prefix, suffix_sums
from isogloss.kernels.values.share import RowShare, best_codes, own_part, whole_codes
from isogloss.kernels.values.step import (
    AdamMoments,
    StepResult,
    StepSettings,
    Weights,
    WiredRows,
    inside_columns,
)
from isogloss.kernels.values.workspace import Workspace


def train_step_topk(
    x: Tensor,
    weights: Weights,
    moments: AdamMoments,
    settings: StepSettings,
    *,
    step: int,
    target: Tensor | None = None,
    columns: Tensor | None = None,
    dead: Tensor | None = None,
    workspace: Workspace | None = None,
    share: RowShare | None = None,
) -> StepResult:
    """Take one full optimiser step, in place on ``weights`` and ``moments``.

    ``pre = (x - decoder_bias) @ encoder.T + encoder_bias``; codes = relu of the ``k`` largest of
    each row; ``xhat = codes @ decoder + decoder_bias``; ``loss = mean |xhat - x|^2 /
    settings.variance + aux_coefficient * aux_loss``.

    The auxiliary loss AuxK (Gao et al. 2024, arXiv:2406.04093) makes dead features useful again.
    They reconstruct ``residual = x - xhat``, which is held fixed, without the decoder bias: ``z``
    are the codes of each row's best ``aux_k`` dead features, and ``aux_loss = min(number of dead
    features / aux_k, 1) * sum |z @ decoder - residual|^2 / sum |residual - its mean|^2``. Its
    gradient reaches encoder and decoder.

    With ``settings.prefixes`` the squared error in the loss is the mean over reconstructions by the
    first so many features (Matryoshka, Bussmann et al. 2025, arXiv:2503.17547); ``squared_error``
    and AuxK's residual are those of all features. With ``settings.clip_norm`` the gradient, after
    the decoder's projection, is shortened to that Euclidean norm over all parameters together.

    Adam is exact: it moves every row of every matrix, also those of features that did not fire.
    With ``unit_norm`` the decoder's gradient is projected orthogonal to the decoder's rows, and the
    rows are divided by their norms after the step. Without it the norms are free, and what is
    chosen are the largest of ``pre`` times the norm of the feature's decoder row, that is by how
    far an entry moves the reconstruction; the values are still those of ``pre``.

    With ``target`` other rows are reconstructed than are read: ``pre = x @ encoder.T +
    encoder_bias``, and ``target`` stands for x in the loss. With ``columns`` a feature reads and
    writes some of the columns only: the gradient elsewhere is 0, so what is 0 there stays 0.

    On the CPU the step is fused: it holds the pre-activations of one chunk of rows at a time and
    the gradient of one feature at a time. It gives the same bits on every run and with any number
    of threads.

    Args:
        x: ``[rows, width]``, float32 (bfloat16 and float16 are converted).
        weights: the dictionary's weights; overwritten by those after the step.
        moments: Adam's moments; overwritten by those after the step.
        settings: see :class:`StepSettings`.
        step: number of this step, counted from 1; Adam's bias correction needs it.
        target: rows to reconstruct, ``[rows, target_width]`` float32; None: x.
        columns: int64 ``[features, 2]``, the first column of each feature and the one behind its
            last; None: all columns. Not together with ``target``.
        dead: bool ``[features]``, True for the features that AuxK may use; None for no AuxK.
        workspace: scratch memory to reuse between calls.
        share: processes that take the step together, each with all of the batch and with the same
            weights: each encodes a part of the rows and hands its codes to the others. None: this
            process alone.

    Returns:
        The losses before the update, and how often each feature fired.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: ``k`` is above the number of features, ``step`` is below 1, there are no rows,
            a prefix does not fit, or a weight is NaN or infinite. Weights that an earlier step
            left, unchanged since, are not searched for NaN again.
    """
    wired = _check(x, weights, moments, settings, step, dead, target, columns)
    return _step(wired, weights, moments, settings, step, dead, workspace, share, over_batch=False)


def train_step_batch_topk(
    x: Tensor,
    weights: Weights,
    moments: AdamMoments,
    settings: StepSettings,
    *,
    step: int,
    target: Tensor | None = None,
    columns: Tensor | None = None,
    dead: Tensor | None = None,
    workspace: Workspace | None = None,
    share: RowShare | None = None,
) -> StepResult:
    """Take the step of :func:`train_step_topk` with codes chosen among all entries of the batch.

    The codes are the ``k * rows`` largest positive entries of ``pre`` by (value descending, row,
    feature), as ``encode_batch_topk`` gives them (Bussmann et al. 2024, arXiv:2412.06410). Loss,
    AuxK (still ``aux_k`` dead features a row), Adam, and the promise of equal bits are the same.

    Args:
        x: ``[rows, width]``, float32 (bfloat16 and float16 are converted).
        weights: the dictionary's weights; overwritten by those after the step.
        moments: Adam's moments; overwritten by those after the step.
        settings: see :class:`StepSettings`; ``k`` is the mean number of features a row.
        step: number of this step, counted from 1.
        target: rows to reconstruct, as for :func:`train_step_topk`.
        columns: columns of each feature, as for :func:`train_step_topk`.
        dead: bool ``[features]``, True for the features that AuxK may use; None for no AuxK.
        workspace: scratch memory to reuse between calls.
        share: processes that take the step together, as for :func:`train_step_topk`.

    Returns:
        The losses before the update, how often each feature fired, and the smallest value chosen
        as ``threshold``.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: as :func:`train_step_topk`.
    """
    wired = _check(x, weights, moments, settings, step, dead, target, columns)
    return _step(wired, weights, moments, settings, step, dead, workspace, share, over_batch=True)


def _step(
    wired: WiredRows,
    weights: Weights,
    moments: AdamMoments,
    settings: StepSettings,
    step: int,
    dead: Tensor | None,
    workspace: Workspace | None,
    share: RowShare | None,
    *,
    over_batch: bool,
) -> StepResult:
    scratch = workspace or Workspace()
    candidates = None
    if dead is not None and settings.aux_k > 0 and bool(dead.any()):
        candidates = dead.nonzero().squeeze(1).to(torch.int32)
    path = composed_step if takes_triton(wired.rows) else cpu.step.train_step
    with torch.no_grad():
        found = path(
            wired,
            weights,
            moments,
            settings,
            step,
            candidates,
            scratch,
            over_batch=over_batch,
            share=share,
        )
    checks.stepped(*weights.named().values())
    return found


def _check(
    x: Tensor,
    weights: Weights,
    moments: AdamMoments,
    settings: StepSettings,
    step: int,
    dead: Tensor | None,
    target: Tensor | None,
    columns: Tensor | None,
) -> WiredRows:
    """Refuse what does not fit; returns the rows in float32."""
    checks.matrix("x", x, columns=weights.width)
    checks.floating(x=x)
    if target is None:
        checks.matrix("decoder", weights.decoder, columns=weights.width)
    else:
        checks.matrix("target", target, rows=x.shape[0], columns=weights.target_width)
        checks.floating(target=target)
        checks.one_device(x=x, target=target)
    if columns is not None:
        checks.matrix("columns", columns, rows=weights.features, columns=2)
        checks.exactly("columns", columns, torch.int64)
        if target is not None:
            raise InvalidInput(
                "columns and target are both given; a feature can be held to some columns only "
                "where the rows read are those reconstructed: leave one of the two out"
            )
    if x.shape[0] < 1:
        raise ShapeError("x has no rows; at least 1 is wanted")
    checks.one_device(x=x, encoder=weights.encoder, moments=moments.first.encoder)
    checks.k_within(settings.k, weights.features)
    checks.finite(**weights.named())
    for moment in (moments.first, moments.second):
        checks.matrix("moments", moment.encoder, rows=weights.features, columns=weights.width)
        checks.matrix("moments", moment.decoder, columns=weights.target_width)
    if dead is not None:
        checks.vector("dead", dead, weights.features)
        checks.exactly("dead", dead, torch.bool)
    if step < 1:
        raise InvalidInput(f"step is {step}; steps count from 1")
    if settings.prefixes and settings.prefixes[-1] != weights.features:
        raise InvalidInput(
            f"prefixes end at {settings.prefixes[-1]}; the last must be all {weights.features} "
            "features"
        )
    checks.rising("prefixes", settings.prefixes or (weights.features,), weights.features)
    return WiredRows(x.float(), None if target is None else target.float(), columns)


class _Chosen(NamedTuple):
    """Codes of all rows."""

    codes: Codes
    """The features that fire."""
    aux: Codes | None
    """The best of the dead features."""
    threshold: float | None
    """Smallest value of a choice over the batch."""


def composed_step(
    wired: WiredRows,
    weights: Weights,
    moments: AdamMoments,
    settings: StepSettings,
    step: int,
    candidates: Tensor | None,
    workspace: Workspace,
    *,
    over_batch: bool = False,
    share: RowShare | None = None,
) -> StepResult:
    """Take the step by other operations of this room, on any device.

    Devices without a fused step take it, and the tests compare the fused one with it.

    Args:
        wired: rows to read and to reconstruct, float32.
        weights: the dictionary's weights; overwritten by those after the step.
        moments: Adam's moments; overwritten by those after the step.
        settings: settings of the step.
        step: number of this step, from 1.
        candidates: the dead features, int32 ascending; None for no AuxK.
        workspace: scratch memory to reuse between calls.
        over_batch: choose ``k * rows`` entries of the batch instead of ``k`` of each row.
        share: processes that take the step together; None: this one alone.

    Returns:
        The losses, and how often each feature fired.
    """
    x, target = wired.rows, wired.rows if wired.target is None else wired.target
    centred = x - weights.decoder_bias if wired.target is None else x
    chosen = _encode(
        centred, weights, settings, candidates, workspace, share, over_batch=over_batch
    )
    edges = settings.prefixes or (weights.features,)
    errors = decode_prefixes(chosen.codes, weights.decoder, edges, weights.decoder_bias)
    errors = errors - target
    squared = [float(error.square().sum(1).mean()) for error in errors]
    downhill = suffix_sums(errors) * (2 / (x.shape[0] * settings.variance * len(edges)))
    gradients = _gradients(chosen.codes, downhill, centred, weights, edges)
    aux_loss = 0.0
    if chosen.aux is not None and candidates is not None:
        dead_share = min(candidates.numel() / settings.aux_k, 1.0)
        aux_loss, extra = _aux(centred, errors[-1], weights, settings, chosen.aux, dead_share)
        if extra is not None:
            gradients.encoder.add_(extra.encoder)
            gradients.encoder_bias.add_(extra.encoder_bias)
            gradients.decoder.add_(extra.decoder)
    if wired.target is None:
        gradients.decoder_bias.sub_(gradients.encoder_bias @ weights.encoder)
    if wired.columns is not None:
        outside = ~inside_columns(wired.columns, weights.width)
        gradients.encoder.masked_fill_(outside, 0.0)
        gradients.decoder.masked_fill_(outside, 0.0)
    fired = _firings(chosen.codes)
    moved = None
    if settings.lazy:
        moved = fired > 0 if chosen.aux is None else (fired > 0) | (_firings(chosen.aux) > 0)
    descend_whole(
        weights.named(),
        moments.first.named(),
        moments.second.named(),
        gradients.named(),
        DescentSettings(
            learning_rate=settings.learning_rate,
            beta1=settings.beta1,
            beta2=settings.beta2,
            epsilon=settings.epsilon,
            unit_norm=settings.unit_norm,
            clip_norm=settings.clip_norm,
        ),
        step,
        moved,
    )
    mean_error = sum(squared) / len(squared)
    return StepResult(
        squared_error=squared[-1],
        loss=mean_error / settings.variance + settings.aux_coefficient * aux_loss,
        aux_loss=aux_loss,
        fired=fired,
        threshold=chosen.threshold,
        residual=errors[-1],
        mean_residual=errors.mean(0) if len(edges) > 1 else None,
    )


def _encode(
    centred: Tensor,
    weights: Weights,
    settings: StepSettings,
    candidates: Tensor | None,
    workspace: Workspace,
    share: RowShare | None,
    *,
    over_batch: bool,
) -> _Chosen:
    """Codes of every row, and those among the candidates."""
    encoder, bias, k = weights.encoder, weights.encoder_bias, settings.k
    rows = centred.shape[0]
    centred = centred[own_part(rows, share)]
    norms = None
    if not settings.unit_norm:
        norms = weights.decoder.norm(dim=1).clamp_min(1e-30)
        encoder, bias = encoder * norms[:, None], bias * norms
    aux_k = 0 if candidates is None else min(settings.aux_k, candidates.numel())
    threshold = None
    if over_batch:
        codes, threshold = _best(centred, encoder, bias, k, workspace, share, rows)
        aux = None
        if candidates is not None:
            dead = candidates.long()
            few = encode_topk(centred, encoder[dead], bias[dead], aux_k, workspace=workspace)
            aux = Codes(
                values=few.values,
                indices=candidates[few.indices.long()],
                features=weights.features,
            )
    elif candidates is None:
        codes, aux = encode_topk(centred, encoder, bias, k, workspace=workspace), None
    else:
        both = encode_among(centred, encoder, bias, k, candidates, aux_k, workspace)
        codes, aux = both.codes, both.aux
    if not over_batch:
        codes = whole_codes(codes, share, rows)
    aux = None if aux is None else whole_codes(aux, share, rows)
    return _divided(_Chosen(codes, aux, threshold), norms)


def _best(
    centred: Tensor,
    encoder: Tensor,
    bias: Tensor,
    k: int,
    workspace: Workspace,
    share: RowShare | None,
    rows: int,
) -> tuple[Codes, float]:
    """Return the best ``k * rows`` entries of a batch of so many rows, and the smallest of them."""
    if share is None:
        alone = encode_batch_topk(centred, encoder, bias, k, workspace=workspace)
        return alone.codes, float(alone.threshold)
    # all of the best may be of this part
    most = min(encoder.shape[0], -(-k * rows // max(1, centred.shape[0])))
    own = encode_batch_topk(centred, encoder, bias, most, workspace=workspace)
    codes, threshold = best_codes(own.codes, share, k * rows, rows)
    return codes, float(threshold)


def _divided(chosen: _Chosen, norms: Tensor | None) -> _Chosen:
    """Take the factor out of values that were multiplied by a norm of their feature."""
    if norms is None:
        return chosen
    codes, aux = (
        None if one is None else one.with_values(one.values / norms[one.indices.long()])
        for one in (chosen.codes, chosen.aux)
    )
    return _Chosen(codes or chosen.codes, aux, chosen.threshold)


def _gradients(
    codes: Codes, downhill: Tensor, centred: Tensor, weights: Weights, edges: tuple[int, ...]
) -> Weights:
    """Gradients of the squared error; the decoder bias's without its part through the encoder."""
    if len(edges) > 1:
        codes, _ = by_prefix(codes, edges)
        centred = centred.repeat(len(edges), 1)
    found = _sums(codes, downhill.flatten(0, 1), centred, weights.decoder)
    return Weights(
        encoder=found.encoder,
        encoder_bias=found.encoder_bias,
        decoder=found.decoder,
        decoder_bias=downhill[0].sum(0),
    )


def _sums(codes: Codes, downhill: Tensor, source: Tensor, decoder: Tensor) -> SparseGradients:
    """Gradients of encoder and decoder, also where they are of different widths."""
    if source.shape[1] == decoder.shape[1]:
        return sparse_gradients(codes, downhill, source, decoder)
    slopes = torch.where(codes.values != 0, value_slopes(codes, downhill, decoder), 0.0)
    of_encoder, of_bias = feature_sums(codes.with_values(slopes), source)
    return SparseGradients(
        values=slopes,
        decoder=feature_sums(codes, downhill)[0],
        encoder=of_encoder,
        encoder_bias=of_bias,
    )


def _aux(
    centred: Tensor,
    residual: Tensor,
    weights: Weights,
    settings: StepSettings,
    codes: Codes,
    share: float,
) -> tuple[float, SparseGradients | None]:
    """AuxK of those codes and its gradients."""
    spread = float((residual - residual.mean(0)).square().sum())
    if spread == 0:
        return 0.0, None
    error = decode(codes, weights.decoder) + residual  # the target is x - xhat
    scale = share / spread
    downhill = error * (2 * settings.aux_coefficient * scale)
    found = _sums(codes, downhill, centred, weights.decoder)
    return scale * float(error.square().sum()), found


def _firings(codes: Codes) -> Tensor:
    """Return how often each feature fires, int32 ``[features]``."""
    fires = (codes.values != 0).reshape(-1).int()
    fired = torch.zeros(codes.features, dtype=torch.int32, device=fires.device)
    return fired.index_add_(0, codes.indices.reshape(-1), fires)  # whole numbers: any order
