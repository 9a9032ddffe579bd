# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportCallIssue=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped, and
# counts a starred argument as one)
"""The fused training step on the CPU.

Rows: GEMM of a chunk into a reused buffer, selection, then the residual. Features: the pass of
``feature_pass.py``. Every sum has one order, whatever the number of threads.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.batch_topk import encode_batch_topk
from isogloss.kernels.cpu.feature_pass import Entries, move_features
from isogloss.kernels.cpu.gradients import value_slopes
from isogloss.kernels.cpu.loops.chunks import chunks
from isogloss.kernels.cpu.loops.entries import row_offsets
from isogloss.kernels.cpu.loops.listed import BestListed
from isogloss.kernels.cpu.loops.select import fill_topk, merge_all
from isogloss.kernels.cpu.loops.sums import (
    add_entries,
    column_spreads,
    dot,
    ordered_sum,
    row_squares,
)
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.cpu.prefixes import decode_prefixes
from isogloss.kernels.values.codes import Codes
from isogloss.kernels.values.prefixes import by_prefix, suffix_sums
from isogloss.kernels.values.share import RowShare, own_part, whole_codes
from isogloss.kernels.values.step import (
    AdamMoments,
    StepResult,
    StepSettings,
    Weights,
    WiredRows,
)
from isogloss.kernels.values.workspace import Workspace

_TINY = 1e-30


class _Aux(NamedTuple):
    """AuxK, and what its gradients are summed of."""

    loss: float
    """Without its coefficient."""
    batch: Entries | None
    """The codes, as the pass over the features sums them; None: there is no gradient."""


class _Chosen(NamedTuple):
    """Codes of all rows."""

    codes: Codes
    """The features that fire."""
    aux: Codes | None
    """The best of the dead features."""
    threshold: float | None
    """Smallest value of a choice over the batch."""


def train_step(
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
    """``isogloss.kernels.train_step_topk`` and ``train_step_batch_topk``.

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
    rows, centred = x.shape[0], x.contiguous()
    if wired.target is None:
        centred = workspace.take("centred", tuple(x.shape))
        torch.sub(x, weights.decoder_bias, out=centred)
    norms = None if settings.unit_norm else row_norms(weights.decoder)
    encode = _encode_batch if over_batch else _encode
    chosen = encode(centred, weights, settings, candidates, norms, workspace, share)
    edges = settings.prefixes or (weights.features,)
    residual, errors, slopes = _residual(target, chosen.codes, weights, edges, workspace)
    mean_error = sum(errors) / len(errors)
    scale = 2 / (rows * settings.variance * len(edges))
    if len(edges) > 1:
        apart, _ = by_prefix(chosen.codes, edges)
        error = suffix_sums(residual).flatten(0, 1)
        main = Entries(apart, value_slopes(apart, error, weights.decoder), error, scale)
    else:
        main = Entries(chosen.codes, slopes, residual[0], scale)
    aux = _Aux(0.0, None)
    if candidates is not None and chosen.aux is not None:
        dead = candidates.numel()
        aux = _aux(residual[-1], chosen.aux, dead, weights, settings, workspace)
    batches = [main] if aux.batch is None else [main, aux.batch]
    fired = move_features(wired, centred, batches, weights, moments, settings, step, workspace)
    return StepResult(
        squared_error=errors[-1],
        loss=mean_error / settings.variance + settings.aux_coefficient * aux.loss,
        aux_loss=aux.loss,
        fired=fired,
        threshold=chosen.threshold,
        residual=residual[-1],
        mean_residual=main.error[:rows] / len(edges) if len(edges) > 1 else None,
    )


def _encode(
    centred: Tensor,
    weights: Weights,
    settings: StepSettings,
    candidates: Tensor | None,
    norms: Tensor | None,
    workspace: Workspace,
    share: RowShare | None,
) -> _Chosen:
    """Give top-k codes of every row, and those among the candidates from the same chunks."""
    every = centred.shape[0]
    centred = centred[own_part(every, share)]
    rows = centred.shape[0]

    values, indices = _room("main", rows, settings.k, workspace)
    listed = _listed(candidates, rows, settings.aux_k, workspace)
    for chunk in chunks(centred, weights.encoder, weights.encoder_bias, workspace, norms):
        merge_all(chunk.pre, chunk.size, chunk.start, values[chunk.rows], indices[chunk.rows])
        if listed is not None:
            listed.merge(chunk)
    fill_topk(values, indices)
    own = Codes(values=values, indices=indices, features=weights.features)
    codes = _divided(whole_codes(own, share, every), norms)
    return _Chosen(codes, _aux_codes(listed, weights, norms, share, every), None)


def _encode_batch(
    centred: Tensor,
    weights: Weights,
    settings: StepSettings,
    candidates: Tensor | None,
    norms: Tensor | None,
    workspace: Workspace,
    share: RowShare | None,
) -> _Chosen:
    """Give the best entries of the batch, and those among the candidates from the same chunks."""
    encoder, bias, every = weights.encoder, weights.encoder_bias, centred.shape[0]
    centred, hint = centred[own_part(every, share)], settings.threshold_hint
    listed = _listed(candidates, centred.shape[0], settings.aux_k, workspace)
    codes, threshold = encode_batch_topk(
        centred, encoder, bias, settings.k, workspace, norms, hint, share, every, listed
    )
    aux = _aux_codes(listed, weights, norms, share, every)
    return _Chosen(_divided(codes, norms), aux, float(threshold))


def _room(name: str, rows: int, k: int, workspace: Workspace) -> tuple[Tensor, Tensor]:
    """Return values and indices ``[rows, k]`` in which nothing is chosen yet."""
    values = workspace.take(f"{name}_values", (rows, k)).zero_()
    return values, workspace.take(f"{name}_indices", (rows, k), torch.int32).zero_()


def _listed(
    candidates: Tensor | None, rows: int, aux_k: int, workspace: Workspace
) -> BestListed | None:
    """Return room for AuxK's choice among the candidates."""
    if candidates is None:
        return None
    chosen = _room("aux", rows, min(aux_k, candidates.numel()), workspace)
    return BestListed(candidates, candidates, *chosen)


def _aux_codes(
    listed: BestListed | None,
    weights: Weights,
    norms: Tensor | None,
    share: RowShare | None,
    rows: int,
) -> Codes | None:
    """Return the codes of AuxK, of all processes' rows."""
    if listed is None:
        return None
    own = Codes(values=listed.values, indices=listed.indices, features=weights.features)
    return _divided(whole_codes(own, share, rows), norms)


def _divided(codes: Codes, norms: Tensor | None) -> Codes:
    """Return codes whose values were multiplied by a norm of their feature without it."""
    if norms is None:
        return codes
    return codes.with_values(codes.values / norms[codes.indices.long()].clamp_min(_TINY))


def row_norms(matrix: Tensor) -> Tensor:
    """Return the Euclidean norm of each row, float32, in one order of sums."""
    norms = torch.empty(matrix.shape[0])
    with parallel_loops():
        _row_norms(matrix.numpy(), norms.numpy())
    return norms


def _residual(
    target: Tensor, codes: Codes, weights: Weights, edges: tuple[int, ...], workspace: Workspace
) -> tuple[Tensor, list[float], Tensor]:
    """Reconstruction less target, ``[prefixes, rows, width]``, the mean square of each, and with
    one prefix the slopes of the entries."""
    rows, width = target.shape
    slopes = workspace.take("slopes", (codes.values.numel(),))
    squares = torch.empty(len(edges), rows, dtype=torch.float64)
    if len(edges) == 1:
        residual = workspace.take("residual", (1, rows, width))
        with parallel_loops():
            _residuals(
                target.contiguous().numpy(),
                codes.values.view(-1).numpy(),
                codes.indices.view(-1).numpy(),
                row_offsets(codes).numpy(),
                weights.decoder.numpy(),
                weights.decoder_bias.numpy(),
                residual[0].numpy(),
                squares[0].numpy(),
                slopes.numpy(),
            )
    else:
        residual = decode_prefixes(codes, weights.decoder, edges, weights.decoder_bias)
        residual.sub_(target)
        with parallel_loops():
            row_squares(residual.view(-1, width).numpy(), squares.view(-1).numpy())
    return residual, [float(ordered_sum(part.numpy())) / rows for part in squares], slopes


def _aux(
    residual: Tensor,
    codes: Codes,
    dead: int,
    weights: Weights,
    settings: StepSettings,
    workspace: Workspace,
) -> _Aux:
    """AuxK: the residual reconstructed from codes of so many dead features."""
    columns = torch.empty(residual.shape[1], dtype=torch.float64)
    with parallel_loops():
        column_spreads(residual.numpy(), columns.numpy())
    spread = float(ordered_sum(columns.numpy()))
    if spread == 0:
        return _Aux(0.0, None)
    share = min(dead / settings.aux_k, 1.0) / spread
    scale = 2 * settings.aux_coefficient * share
    error = workspace.take("aux_error", tuple(residual.shape))
    row_errors = torch.empty(residual.shape[0], dtype=torch.float64)
    with parallel_loops():
        _aux_errors(
            residual.numpy(),
            codes.values.numpy(),
            codes.indices.numpy(),
            weights.decoder.numpy(),
            error.numpy(),
            row_errors.numpy(),
        )
    squared = float(ordered_sum(row_errors.numpy()))
    slopes = value_slopes(codes, error, weights.decoder)
    return _Aux(share * squared, Entries(codes, slopes, error, scale))


@njit(parallel=True, cache=True)
def _residuals(x, values, indices, offsets, decoder, bias, out, squares, slopes) -> None:
    """Reconstruction less ``x``, the squared norm of each row, and the slope of each entry.

    The slopes are taken here because the row's directions are still in cache.
    """
    rows, width = x.shape
    for row in prange(rows):
        error, target = out[row], x[row]
        for i in range(width):
            error[i] = bias[i] - target[i]
        add_entries(error, decoder, values, indices, offsets[row], offsets[row + 1])
        squares[row] = dot(error, error)
        for j in range(offsets[row], offsets[row + 1]):
            slopes[j] = dot(error, decoder[indices[j]]) if values[j] != 0 else np.float32(0)


@njit(parallel=True, cache=True)
def _row_norms(source, out) -> None:
    for row in prange(source.shape[0]):
        own = source[row]
        out[row] = np.sqrt(dot(own, own))


@njit(parallel=True, cache=True)
def _aux_errors(residual, values, indices, decoder, out, squares) -> None:
    """``out = values @ decoder[indices] + residual``, for the target ``x - xhat``; its squares."""
    rows, width = residual.shape
    for row in prange(rows):
        error, target = out[row], residual[row]
        for i in range(width):
            error[i] = target[i]
        add_entries(error, decoder, values[row], indices[row], 0, values.shape[1])
        squares[row] = dot(error, error)
