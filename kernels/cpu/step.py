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
from torch import Tensor

from isogloss.kernels.cpu.loops.chunks import chunks
from isogloss.kernels.cpu.loops.entries import sort_by_feature
from isogloss.kernels.cpu.loops.select import fill_topk, merge_all, merge_topk
from isogloss.kernels.cpu.loops.sums import dot
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.values.step import AdamMoments, StepResult, StepSettings, Weights
from isogloss.kernels.values.workspace import Workspace

_FEATURES = 32
_COLUMNS = 64


class _Batch(NamedTuple):
    """Results of the passes over the rows, as the pass over the features needs them."""

    values: Tensor
    """``[rows, k]``."""
    indices: Tensor
    """``[rows, k]`` int32."""
    error: Tensor
    """Reconstruction less target, ``[rows, width]``."""
    scale: float
    """Gradient to the reconstruction / error."""


def train_step(
    x: Tensor,
    weights: Weights,
    moments: AdamMoments,
    settings: StepSettings,
    step: int,
    candidates: Tensor | None,
    workspace: Workspace,
) -> StepResult:
    """``isogloss.kernels.train_step_topk``; ``candidates``: the dead features, int32 ascending."""
    rows = x.shape[0]
    centred = workspace.take("centred", tuple(x.shape))
    torch.sub(x, weights.decoder_bias, out=centred)
    main, aux_codes = _encode(centred, weights, settings, candidates, workspace)
    values, indices = main
    residual = workspace.take("residual", tuple(x.shape))
    row_errors = torch.empty(rows, dtype=torch.float64)
    with parallel_loops():
        _residuals(
            x.contiguous().numpy(),
            values.numpy(),
            indices.numpy(),
            weights.decoder.numpy(),
            weights.decoder_bias.numpy(),
            residual.numpy(),
            row_errors.numpy(),
        )
        squared_error = float(_ordered_sum(row_errors.numpy())) / rows
    batches = [_Batch(values, indices, residual, 2 / (rows * settings.variance))]
    aux_loss = 0.0
    if aux_codes is not None and candidates is not None:
        share = min(candidates.numel() / settings.aux_k, 1.0)
        aux_loss, batch = _aux(residual, aux_codes, weights, settings, share, workspace)
        batches += [] if batch is None else [batch]
    fired = _update(centred, batches, weights, moments, settings, step, workspace)
    return StepResult(
        squared_error=squared_error,
        loss=squared_error / settings.variance + settings.aux_coefficient * aux_loss,
        aux_loss=aux_loss,
        fired=fired,
    )


_Codes = tuple[Tensor, Tensor]


def _encode(
    centred: Tensor,
    weights: Weights,
    settings: StepSettings,
    candidates: Tensor | None,
    workspace: Workspace,
) -> tuple[_Codes, _Codes | None]:
    """Give top-k codes of every row, and those among the candidates from the same chunks."""
    rows = centred.shape[0]

    def room(name: str, k: int) -> _Codes:
        values = workspace.take(f"{name}_values", (rows, k)).zero_()
        return values, workspace.take(f"{name}_indices", (rows, k), torch.int32).zero_()

    (values, indices), aux = room("main", settings.k), None
    if candidates is not None:
        aux = room("aux", min(settings.aux_k, candidates.numel()))
    for chunk in chunks(centred, weights.encoder, weights.encoder_bias, workspace):
        part, start = chunk.rows, chunk.start
        merge_all(chunk.pre, chunk.size, start, values[part], indices[part])
        if aux is not None and candidates is not None:
            bounds = torch.tensor([start, start + chunk.size], dtype=torch.int32)
            first, last = torch.searchsorted(candidates, bounds).tolist()
            if first < last:
                here = torch.stack((candidates[first:last] - start, candidates[first:last]))
                merge_topk(chunk.pre, here, aux[0][part], aux[1][part])
    fill_topk(values, indices)
    return (values, indices), aux


def _aux(
    residual: Tensor,
    codes: _Codes,
    weights: Weights,
    settings: StepSettings,
    share: float,
    workspace: Workspace,
) -> tuple[float, _Batch | None]:
    """AuxK: the residual reconstructed from dead features."""
    rows, width = residual.shape
    error = workspace.take("aux_error", (rows, width))
    row_errors = torch.empty(rows, dtype=torch.float64)
    columns = torch.empty(width, dtype=torch.float64)
    values, indices = codes
    with parallel_loops():
        _column_spreads(residual.numpy(), columns.numpy())
        spread = float(_ordered_sum(columns.numpy()))
        if spread == 0:
            return 0.0, None
        _aux_errors(
            residual.numpy(),
            values.numpy(),
            indices.numpy(),
            weights.decoder.numpy(),
            error.numpy(),
            row_errors.numpy(),
        )
        aux_loss = share / spread * float(_ordered_sum(row_errors.numpy()))
    scale = 2 * settings.aux_coefficient * share / spread
    return aux_loss, _Batch(values, indices, error, scale)


def _update(
    centred: Tensor,
    batches: list[_Batch],
    weights: Weights,
    moments: AdamMoments,
    settings: StepSettings,
    step: int,
    workspace: Workspace,
) -> Tensor:
    """Gradients, Adam and normalising, a feature at a time; returns how often each fired."""
    width, features = weights.width, weights.features
    sums = torch.empty(width, dtype=torch.float64)
    partial = workspace.take("partial", (_blocks(features), width))
    constants = _adam_constants(settings, step)
    orders = [_sorted(batch, features, workspace, f"order{n}") for n, batch in enumerate(batches)]
    fired = orders[0][0].diff().to(torch.int32)
    if len(batches) == 1:
        # a second batch without entries, so that one compiled loop serves both
        batches = [*batches, batches[0]]
        orders.append((torch.zeros(features + 1, dtype=torch.int64), *orders[0][1:]))
    lists = [
        (
            batch.values.view(-1).numpy(),
            *(part.numpy() for part in order),
            batch.error.numpy(),
            _single(batch.scale),
        )
        for batch, order in zip(batches, orders, strict=True)
    ]
    parameters, first, second = (
        tuple(tensor.numpy() for tensor in holder.named().values())
        for holder in (weights, moments.first, moments.second)
    )
    error, scale = batches[0].error.numpy(), batches[0].scale
    with parallel_loops():
        _column_sums(error, sums.numpy())
        _update_features(
            centred.numpy(),
            lists[0],
            lists[1],
            parameters,
            first,
            second,
            partial.numpy(),
            constants,
            settings.unit_norm,
        )
        _update_decoder_bias(
            sums.numpy(), scale, partial.numpy(), parameters[3], first[3], second[3], constants
        )
    return fired


def _sorted(
    batch: _Batch, features: int, workspace: Workspace, name: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Starts by feature, entries and rows, as ``sort_by_feature`` fills them."""
    rows, k = batch.values.shape
    starts = torch.zeros(features + 1, dtype=torch.int64)
    entries = workspace.take(f"{name}_entries", (rows * k,), torch.int64)
    owners = workspace.take(f"{name}_rows", (rows * k,), torch.int32)
    sort_by_feature(
        batch.values.view(-1).numpy(),
        batch.indices.view(-1).numpy(),
        (torch.arange(rows + 1) * k).numpy(),
        starts.numpy(),
        entries.numpy(),
        owners.numpy(),
    )
    return starts, entries, owners


def _blocks(features: int) -> int:
    """Blocks of features that one thread takes at a time."""
    return (features + _FEATURES - 1) // _FEATURES


def _single(value: float) -> np.float32:
    """Return a float32; numba would compile a Python float as float64."""
    return np.float32(value)


def _adam_constants(settings: StepSettings, step: int) -> tuple[np.float32, ...]:
    """Step size over bias correction, root correction, both decays, epsilon; float32."""
    return (
        np.float32(settings.learning_rate / (1 - settings.beta1**step)),
        np.float32(1 / np.sqrt(1 - settings.beta2**step)),
        np.float32(settings.beta1),
        np.float32(settings.beta2),
        np.float32(settings.epsilon),
    )


@njit(cache=True)
def _ordered_sum(parts) -> float:
    """Sum the parts from first to last."""
    total = 0.0
    for i in range(parts.size):
        total += parts[i]
    return total


@njit(parallel=True, cache=True)
def _residuals(x, values, indices, decoder, bias, out, squares) -> None:
    """``out = values @ decoder[indices] + bias - x`` and the squared norm of each row."""
    rows, width = x.shape
    for row in prange(rows):
        error, target = out[row], x[row]
        for i in range(width):
            error[i] = bias[i] - target[i]
        for j in range(values.shape[1]):
            value = values[row, j]
            direction = decoder[indices[row, j]]
            if value != 0:
                for i in range(width):
                    error[i] += value * direction[i]
        squares[row] = dot(error, error)


@njit(parallel=True, cache=True)
def _aux_errors(residual, values, indices, decoder, out, squares) -> None:
    """``out = values @ decoder[indices] + residual``, for the target ``x - xhat``; its squares."""
    rows, width = residual.shape
    for row in prange(rows):
        error, target = out[row], residual[row]
        for i in range(width):
            error[i] = target[i]
        for j in range(values.shape[1]):
            value = values[row, j]
            direction = decoder[indices[row, j]]
            if value != 0:
                for i in range(width):
                    error[i] += value * direction[i]
        squares[row] = dot(error, error)


@njit(cache=True)
def _add_columns(source, first, last, sums):
    for row in range(source.shape[0]):
        part = source[row, first:last]
        for i in range(last - first):
            sums[i] += part[i]


@njit(parallel=True, cache=True)
def _column_sums(source, out) -> None:
    """Float64 sums of the columns, each from the first row to the last."""
    width = source.shape[1]
    for block in prange((width + _COLUMNS - 1) // _COLUMNS):
        first, last = block * _COLUMNS, min(width, (block + 1) * _COLUMNS)
        sums = np.zeros(_COLUMNS, np.float64)
        _add_columns(source, first, last, sums)
        for i in range(last - first):
            out[first + i] = sums[i]


@njit(parallel=True, cache=True)
def _column_spreads(source, out) -> None:
    """Float64 sums of squared deviations of each column from its mean."""
    rows, width = source.shape
    for block in prange((width + _COLUMNS - 1) // _COLUMNS):
        first, last = block * _COLUMNS, min(width, (block + 1) * _COLUMNS)
        means = np.zeros(_COLUMNS, np.float64)
        _add_columns(source, first, last, means)
        means /= rows
        sums = np.zeros(_COLUMNS, np.float64)
        for row in range(rows):
            part = source[row, first:last]
            for i in range(last - first):
                deviation = part[i] - means[i]
                sums[i] += deviation * deviation
        for i in range(last - first):
            out[first + i] = sums[i]


@njit(cache=True)
def _add_entries(f, batch, centred, direction, of_decoder, of_encoder):
    """Add one feature's entries to its two gradient rows; returns its bias gradient."""
    values, starts, entries, rows, error, scale = batch
    width = direction.size
    bias = np.float32(0)
    for t in range(starts[f], starts[f + 1]):
        downhill, source = error[rows[t]], centred[rows[t]]
        slope = dot(downhill, direction) * scale
        value = values[entries[t]] * scale
        for i in range(width):
            of_decoder[i] += value * downhill[i]
            of_encoder[i] += slope * source[i]
        bias += slope
    return bias


@njit(cache=True, error_model="numpy")  # Python's check for a zero divisor kept it scalar
def _adam(parameter, first, second, gradient, constants):
    rate, root, beta1, beta2, epsilon = constants
    rest1, rest2 = np.float32(1) - beta1, np.float32(1) - beta2
    for i in range(parameter.size):
        slope = gradient[i]
        mean = beta1 * first[i] + rest1 * slope
        square = beta2 * second[i] + rest2 * slope * slope
        first[i] = mean
        second[i] = square
        parameter[i] -= rate * mean / (np.sqrt(square) * root + epsilon)


@njit(cache=True)
def _project(gradient, direction):
    squared = dot(direction, direction)
    if squared > 0:
        share = dot(gradient, direction) / squared
        for i in range(direction.size):
            gradient[i] -= share * direction[i]


@njit(cache=True)
def _normalise(direction):
    squared = dot(direction, direction)
    if squared > 0:
        scale = np.float32(1) / np.sqrt(squared)
        for i in range(direction.size):
            direction[i] *= scale


@njit(parallel=True, cache=True)
def _update_features(
    centred, main, aux, weights, first, second, partial, constants, unit_norm
) -> None:
    """Gradients, projection, Adam and normalising of every feature.

    ``partial[block]`` becomes the block's share of ``bias gradient @ encoder`` (before the update).
    """
    encoder, encoder_bias, decoder, _ = weights
    features, width = encoder.shape
    for block in prange((features + _FEATURES - 1) // _FEATURES):
        of_encoder = np.empty(width, np.float32)
        of_decoder = np.empty(width, np.float32)
        of_bias = np.empty(1, np.float32)
        share = partial[block]
        share[:] = np.float32(0)
        for f in range(block * _FEATURES, min(features, (block + 1) * _FEATURES)):
            reads, writes = encoder[f], decoder[f]
            of_encoder[:] = np.float32(0)
            of_decoder[:] = np.float32(0)
            bias = _add_entries(f, main, centred, writes, of_decoder, of_encoder)
            bias += _add_entries(f, aux, centred, writes, of_decoder, of_encoder)
            of_bias[0] = bias
            if bias != 0:
                for i in range(width):
                    share[i] += bias * reads[i]
            if unit_norm:
                _project(of_decoder, writes)
            _adam(reads, first[0][f], second[0][f], of_encoder, constants)
            _adam(writes, first[2][f], second[2][f], of_decoder, constants)
            here = slice(f, f + 1)
            _adam(encoder_bias[here], first[1][here], second[1][here], of_bias, constants)
            if unit_norm:
                _normalise(writes)


@njit(cache=True)
def _update_decoder_bias(sums, scale, partial, bias, first, second, constants) -> None:
    """Adam on the decoder bias: its gradient at the output less that through the encoder."""
    gradient = np.empty(bias.size, np.float32)
    for i in range(bias.size):
        gradient[i] = np.float32(sums[i] * scale)
    for block in range(partial.shape[0]):
        share = partial[block]
        for i in range(bias.size):
            gradient[i] -= share[i]
    _adam(bias, first, second, gradient, constants)
