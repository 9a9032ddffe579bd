# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportCallIssue=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped, and
# counts a starred argument as one)
"""Loops of the fused training step, by numba; one thread sums a row or a feature, in order."""

import numpy as np
from numba import njit, prange

from isogloss.kernels.cpu.sums import dot
from isogloss.kernels.step_types import StepSettings

_FEATURES = 32
_COLUMNS = 64


def blocks(features: int) -> int:
    """Blocks of features that one thread takes at a time."""
    return (features + _FEATURES - 1) // _FEATURES


def single(value: float) -> np.float32:
    """A float32, which numba keeps apart from Python's float64."""
    return np.float32(value)


def adam_constants(settings: StepSettings, step: int) -> tuple[np.float32, ...]:
    """Step size over bias correction, root correction, both decays, epsilon; float32."""
    return (
        np.float32(settings.learning_rate / (1 - settings.beta1**step)),
        np.float32(1 / np.sqrt(1 - settings.beta2**step)),
        np.float32(settings.beta1),
        np.float32(settings.beta2),
        np.float32(settings.epsilon),
    )


@njit(cache=True)
def ordered_sum(parts) -> float:
    """Sum from first to last."""
    total = 0.0
    for i in range(parts.size):
        total += parts[i]
    return total


@njit(parallel=True, cache=True)
def residuals(x, values, indices, decoder, bias, out, squares) -> None:
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
def aux_errors(residual, values, indices, decoder, out, squares) -> None:
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
def column_sums(source, out) -> None:
    """Float64 sums of the columns, each from the first row to the last."""
    width = source.shape[1]
    for block in prange((width + _COLUMNS - 1) // _COLUMNS):
        first, last = block * _COLUMNS, min(width, (block + 1) * _COLUMNS)
        sums = np.zeros(_COLUMNS, np.float64)
        _add_columns(source, first, last, sums)
        for i in range(last - first):
            out[first + i] = sums[i]


@njit(parallel=True, cache=True)
def column_spreads(source, out) -> None:
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
def update_features(
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
def update_decoder_bias(sums, scale, partial, bias, first, second, constants) -> None:
    """Adam on the decoder bias: its gradient at the output less that through the encoder."""
    gradient = np.empty(bias.size, np.float32)
    for i in range(bias.size):
        gradient[i] = np.float32(sums[i] * scale)
    for block in range(partial.shape[0]):
        share = partial[block]
        for i in range(bias.size):
            gradient[i] -= share[i]
    _adam(bias, first, second, gradient, constants)
