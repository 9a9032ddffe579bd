# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportCallIssue=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped, and
# counts a starred argument as one)
"""The fused training step on the CPU.

Rows: GEMM of a chunk into a reused buffer, selection, then the residual. Features: entries sorted
by feature, and for one feature after another the two gradient rows, projection, Adam and
normalising, all in cache. Every sum has one order, whatever the number of threads.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from isogloss.kernels.cpu.batch_topk import encode_batch_topk
from isogloss.kernels.cpu.encode import encode_topk
from isogloss.kernels.cpu.few_dead import (
    DeadGradients,
    are_few,
    aux_gradients,
    dead_values,
    no_gradients,
)
from isogloss.kernels.cpu.gradients import value_slopes
from isogloss.kernels.cpu.loops.adam import adam, adam_constants, keep_columns, normalise, project
from isogloss.kernels.cpu.loops.chunks import chunks
from isogloss.kernels.cpu.loops.entries import row_offsets, sort_by_feature
from isogloss.kernels.cpu.loops.select import fill_topk, merge_all, merge_topk
from isogloss.kernels.cpu.loops.sums import (
    add_entries,
    add_rows,
    column_spreads,
    column_sums,
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

_FEATURES = 32
_TINY = 1e-30
_KEPT_BYTES = 24 << 20
_WORTH_KEEPING = 4
"""Entries of a feature from which on its gradient is kept rather than summed twice."""


class _Batch(NamedTuple):
    """Results of the passes over the rows, as the pass over the features needs them."""

    codes: Codes
    """Entries of the rows; with prefixes, of one row for each prefix and row."""
    slopes: Tensor
    """``<error[row], decoder[feature]>`` of every entry."""
    error: Tensor
    """Half the gradient to the reconstruction, but for the scale: ``[codes.rows, width]``."""
    scale: float
    """Gradient to the reconstruction / error."""


class _Aux(NamedTuple):
    """AuxK and its gradients: of codes, or of few dead features whole."""

    loss: float
    """Without its coefficient."""
    batch: _Batch | None
    """The codes, as the pass over the features sums them."""
    dead: DeadGradients
    """Gradients that are summed already."""


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
    few = candidates is not None and are_few(candidates.numel(), settings.aux_k)
    listed = None if few else candidates
    chosen = encode(centred, weights, settings, listed, norms, workspace, share)
    edges = settings.prefixes or (weights.features,)
    residual, errors, slopes = _residual(target, chosen.codes, weights, edges, workspace)
    mean_error = sum(errors) / len(errors)
    scale = 2 / (rows * settings.variance * len(edges))
    if len(edges) > 1:
        apart, _ = by_prefix(chosen.codes, edges)
        error = suffix_sums(residual).flatten(0, 1)
        main = _Batch(apart, value_slopes(apart, error, weights.decoder), error, scale)
    else:
        main = _Batch(chosen.codes, slopes, residual[0], scale)
    aux = _Aux(0.0, None, no_gradients())
    if candidates is not None:
        of_dead = (candidates, chosen.aux, norms)
        aux = _aux(centred, residual[-1], of_dead, weights, settings, workspace)
    batches = [main] if aux.batch is None else [main, aux.batch]
    fired = _update(wired, centred, batches, aux.dead, weights, moments, settings, step, workspace)
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

    def room(name: str, k: int) -> tuple[Tensor, Tensor]:
        values = workspace.take(f"{name}_values", (rows, k)).zero_()
        return values, workspace.take(f"{name}_indices", (rows, k), torch.int32).zero_()

    (values, indices), aux = room("main", settings.k), None
    if candidates is not None:
        aux = room("aux", min(settings.aux_k, candidates.numel()))
    for chunk in chunks(centred, weights.encoder, weights.encoder_bias, workspace, norms):
        part, start = chunk.rows, chunk.start
        merge_all(chunk.pre, chunk.size, start, values[part], indices[part])
        if aux is not None and candidates is not None:
            bounds = torch.tensor([start, start + chunk.size], dtype=torch.int32)
            first, last = torch.searchsorted(candidates, bounds).tolist()
            if first < last:
                here = torch.stack((candidates[first:last] - start, candidates[first:last]))
                merge_topk(chunk.pre, here, aux[0][part], aux[1][part])
    fill_topk(values, indices)

    def whole(values: Tensor, indices: Tensor) -> Codes:
        own = Codes(values=values, indices=indices, features=weights.features)
        return _divided(whole_codes(own, share, every), norms)

    return _Chosen(whole(values, indices), None if aux is None else whole(*aux), None)


def _encode_batch(
    centred: Tensor,
    weights: Weights,
    settings: StepSettings,
    candidates: Tensor | None,
    norms: Tensor | None,
    workspace: Workspace,
    share: RowShare | None,
) -> _Chosen:
    """Give the best entries of the batch; those among the candidates by a second, smaller GEMM."""
    encoder, bias, every = weights.encoder, weights.encoder_bias, centred.shape[0]
    centred, hint = centred[own_part(every, share)], settings.threshold_hint
    codes, threshold = encode_batch_topk(
        centred, encoder, bias, settings.k, workspace, norms, hint, share, every
    )
    aux = None
    if candidates is not None:
        dead, count = candidates.long(), min(settings.aux_k, candidates.numel())
        factor = None if norms is None else norms[dead]
        values, places = encode_topk(centred, encoder[dead], bias[dead], count, workspace, factor)
        aux = Codes(values=values, indices=candidates[places.long()], features=weights.features)
        aux = _divided(whole_codes(aux, share, every), norms)
    return _Chosen(_divided(codes, norms), aux, float(threshold))


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
    centred: Tensor,
    residual: Tensor,
    of_dead: tuple[Tensor, Codes | None, Tensor | None],
    weights: Weights,
    settings: StepSettings,
    workspace: Workspace,
) -> _Aux:
    """AuxK: the residual reconstructed from dead features, by their codes or, without, by GEMMs."""
    candidates, codes, norms = of_dead
    columns = torch.empty(residual.shape[1], dtype=torch.float64)
    with parallel_loops():
        column_spreads(residual.numpy(), columns.numpy())
    spread = float(ordered_sum(columns.numpy()))
    if spread == 0:
        return _Aux(0.0, None, no_gradients())
    share = min(candidates.numel() / settings.aux_k, 1.0) / spread
    scale = 2 * settings.aux_coefficient * share
    if codes is None:
        values = dead_values(centred, weights, candidates, settings.aux_k, norms, workspace)
        squared, found = aux_gradients(
            centred, residual, values, weights, candidates, scale, workspace
        )
        return _Aux(share * squared, None, found)
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
    return _Aux(share * squared, _Batch(codes, slopes, error, scale), no_gradients())


def _update(
    wired: WiredRows,
    centred: Tensor,
    batches: list[_Batch],
    dead: DeadGradients,
    weights: Weights,
    moments: AdamMoments,
    settings: StepSettings,
    step: int,
    workspace: Workspace,
) -> Tensor:
    """Gradients, Adam and normalising, a feature at a time; returns how often each fired."""
    features, rows = weights.features, centred.shape[0]
    sums = torch.empty(weights.target_width, dtype=torch.float64)
    partial = workspace.take("partial", (_blocks(features), weights.width))
    # the decoder bias is subtracted before encoding where the rows read are those reconstructed
    through_encoder = partial if wired.target is None else partial[:0]
    columns = torch.empty(0, 2, dtype=torch.int64) if wired.columns is None else wired.columns
    constants = adam_constants(
        settings.learning_rate, settings.beta1, settings.beta2, settings.epsilon, step
    )
    orders = [_sorted(batch.codes, workspace, f"order{n}") for n, batch in enumerate(batches)]
    fired = orders[0][0].diff().to(torch.int32)
    if len(batches) == 1:
        # a second batch without entries, so that one compiled loop serves both
        batches = [*batches, batches[0]]
        orders.append((torch.zeros(features + 1, dtype=torch.int64), *orders[0][1:]))
    parameters, first, second = (
        tuple(tensor.numpy() for tensor in holder.named().values())
        for holder in (weights, moments.first, moments.second)
    )
    error, scale = batches[0].error, batches[0].scale
    if error.shape[0] > rows:  # the rows of every prefix are encoded from the same row
        centred = centred.repeat(error.shape[0] // rows, 1)
    with parallel_loops():
        # with prefixes the first rows are those that sum the errors of all prefixes
        column_sums(error[:rows].numpy(), sums.numpy())
        more = tuple(part.numpy() for part in dead)
        inputs = (centred.numpy(), *_lists(batches, orders), more, parameters, columns.numpy())
        shorter, kept = 1.0, _nothing_kept(features)
        if settings.clip_norm is not None:
            squares = torch.empty(features, dtype=torch.float64)
            kept = _room_to_keep(orders, weights, workspace)
            _square_gradients(*inputs, kept, partial.numpy(), squares.numpy(), settings.unit_norm)
            of_bias = _decoder_bias_gradient(sums.numpy(), scale, through_encoder.numpy())
            norm = float(np.sqrt(ordered_sum(squares.numpy()) + float(dot(of_bias, of_bias))))
            shorter = min(1.0, settings.clip_norm / norm) if norm > 0 else 1.0
        _update_features(
            *inputs,
            first,
            second,
            kept,
            _single(shorter),
            partial.numpy(),
            constants,
            settings.unit_norm,
        )
        of_bias = _decoder_bias_gradient(sums.numpy(), scale, through_encoder.numpy())
        of_bias *= _single(shorter)
        adam(parameters[3], first[3], second[3], of_bias, constants)
    return fired


_Order = tuple[Tensor, Tensor, Tensor]


def _lists(batches: list[_Batch], orders: list[_Order]) -> list[tuple[object, ...]]:
    """Return what the loops read of each batch."""
    return [
        (
            batch.codes.values.view(-1).numpy(),
            batch.slopes.view(-1).numpy(),
            *(part.numpy() for part in order),
            batch.error.numpy(),
            _single(batch.scale),
        )
        for batch, order in zip(batches, orders, strict=True)
    ]


def _sorted(codes: Codes, workspace: Workspace, name: str) -> _Order:
    """Starts by feature, entries and rows, as ``sort_by_feature`` fills them."""
    count = codes.values.numel()
    starts = torch.zeros(codes.features + 1, dtype=torch.int64)
    entries = workspace.take(f"{name}_entries", (count,), torch.int64)
    owners = workspace.take(f"{name}_rows", (count,), torch.int32)
    sort_by_feature(
        codes.values.view(-1).numpy(),
        codes.indices.view(-1).numpy(),
        row_offsets(codes).numpy(),
        starts.numpy(),
        entries.numpy(),
        owners.numpy(),
    )
    return starts, entries, owners


_Kept = tuple[NDArray[np.int32], NDArray[np.float32]]


def _nothing_kept(features: int) -> _Kept:
    return np.full(features, -1, np.int32), np.empty((0, 0), np.float32)


def _room_to_keep(orders: list[_Order], weights: Weights, workspace: Workspace) -> _Kept:
    """Return where gradient rows stay between the pass that measures and the one that moves.

    A feature with few entries is summed twice instead: that costs less than to write its two rows
    and read them again. The rows lie in the buffer of the pre-activations, which are done with.

    Args:
        orders: the sorted entries of each batch.
        weights: of the dictionary.
        workspace: scratch memory.

    Returns:
        The row of each feature, -1 where it is not kept; and the rows, of which each holds the
        gradient of what a feature reads, of what it writes, and of its bias.
    """
    counts = np.sum([starts.diff().numpy() for starts, _, _ in orders], axis=0)
    width = weights.width + weights.target_width + 1
    most = max(1, _KEPT_BYTES // (4 * width))
    wanted = np.nonzero(counts >= _WORTH_KEEPING)[0][:most]
    places = np.full(weights.features, -1, np.int32)
    places[wanted] = np.arange(len(wanted), dtype=np.int32)
    return places, workspace.take("pre", (len(wanted), width)).numpy()


def _blocks(features: int) -> int:
    """Blocks of features that one thread takes at a time."""
    return (features + _FEATURES - 1) // _FEATURES


def _single(value: float) -> np.float32:
    """Return a float32; numba would compile a Python float as float64."""
    return np.float32(value)


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


@njit(cache=True)
def _add_entries(f, batch, centred, of_decoder, of_encoder):
    """Add one feature's entries to its two gradient rows; returns its bias gradient."""
    values, slopes, starts, entries, rows, error, scale = batch
    first, last = starts[f], starts[f + 1]
    add_rows(of_decoder, error, values, entries, rows, first, last, scale)
    add_rows(of_encoder, centred, slopes, entries, rows, first, last, scale)
    bias = np.float32(0)
    for t in range(first, last):
        bias += slopes[entries[t]] * scale
    return bias


@njit(cache=True)
def _feature_gradient(
    f, centred, main, aux, dead, writes, columns, unit_norm, of_decoder, of_encoder
):
    """Fill both gradient rows of a feature; returns its bias gradient."""
    of_encoder[:] = np.float32(0)
    of_decoder[:] = np.float32(0)
    bias = _add_entries(f, main, centred, of_decoder, of_encoder)
    bias += _add_entries(f, aux, centred, of_decoder, of_encoder)
    places, dead_encoder, dead_decoder, dead_bias = dead
    if places.size > 0 and places[f] >= 0:
        to_encoder, to_decoder = dead_encoder[places[f]], dead_decoder[places[f]]
        for i in range(of_encoder.size):
            of_encoder[i] += to_encoder[i]
        for i in range(of_decoder.size):
            of_decoder[i] += to_decoder[i]
        bias += dead_bias[places[f]]
    if columns.shape[0] > 0:
        keep_columns(of_decoder, columns[f, 0], columns[f, 1])
        keep_columns(of_encoder, columns[f, 0], columns[f, 1])
    if unit_norm:
        project(of_decoder, writes)
    return bias


@njit(cache=True)
def _add_share(share, bias, reads):
    if bias != 0:
        for i in range(share.size):
            share[i] += bias * reads[i]


@njit(parallel=True, cache=True)
def _square_gradients(
    centred, main, aux, dead, weights, columns, kept, partial, squares, unit_norm
) -> None:
    """Squared norm of the gradient of every feature, and ``partial`` as ``_update_features``.

    Gradients of the features that have a place in ``kept`` stay there.
    """
    encoder, _, decoder, _ = weights
    features, width = encoder.shape
    places, rows = kept
    for block in prange((features + _FEATURES - 1) // _FEATURES):
        room = np.empty(width + decoder.shape[1] + 1, np.float32)
        share = partial[block]
        share[:] = np.float32(0)
        for f in range(block * _FEATURES, min(features, (block + 1) * _FEATURES)):
            row = rows[places[f]] if places[f] >= 0 else room
            of_encoder, of_decoder = row[:width], row[width:-1]
            bias = _feature_gradient(
                f, centred, main, aux, dead, decoder[f], columns, unit_norm, of_decoder, of_encoder
            )
            row[-1] = bias
            _add_share(share, bias, encoder[f])
            squares[f] = dot(of_encoder, of_encoder) + dot(of_decoder, of_decoder) + bias * bias


@njit(parallel=True, cache=True)
def _update_features(
    centred, main, aux, dead, weights, columns, first, second, kept, shorter, partial, constants,
    unit_norm,
) -> None:  # fmt: skip
    """Gradients, projection, Adam and normalising of every feature.

    ``partial[block]`` becomes the block's share of ``bias gradient @ encoder`` (before the update,
    and before the gradients are multiplied by ``shorter``).
    """
    encoder, encoder_bias, decoder, _ = weights
    features, width = encoder.shape
    places, rows = kept
    for block in prange((features + _FEATURES - 1) // _FEATURES):
        room = np.empty(width + decoder.shape[1] + 1, np.float32)
        share = partial[block]
        share[:] = np.float32(0)
        for f in range(block * _FEATURES, min(features, (block + 1) * _FEATURES)):
            reads, writes = encoder[f], decoder[f]
            row = rows[places[f]] if places[f] >= 0 else room
            of_encoder, of_decoder, of_bias = row[:width], row[width:-1], row[-1:]
            if places[f] < 0:
                of_bias[0] = _feature_gradient(
                    f, centred, main, aux, dead, writes, columns, unit_norm, of_decoder, of_encoder
                )
            _add_share(share, of_bias[0], reads)
            for i in range(row.size):
                row[i] *= shorter
            adam(reads, first[0][f], second[0][f], of_encoder, constants)
            adam(writes, first[2][f], second[2][f], of_decoder, constants)
            here = slice(f, f + 1)
            adam(encoder_bias[here], first[1][here], second[1][here], of_bias, constants)
            if unit_norm:
                normalise(writes)


@njit(cache=True)
def _decoder_bias_gradient(sums, scale, partial):
    """Gradient of the decoder bias at the output less that through the encoder."""
    gradient = np.empty(sums.size, np.float32)
    for i in range(sums.size):
        gradient[i] = np.float32(sums[i] * scale)
    for block in range(partial.shape[0]):
        share = partial[block]
        for i in range(sums.size):
            gradient[i] -= share[i]
    return gradient
