# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportCallIssue=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped, and
# counts a starred argument as one)
"""Gradients of codes and dictionary on the CPU, by numba.

The slope of an entry belongs to the thread of its row, what is summed over a feature's entries to
the thread of that feature.
"""

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.loops.entries import row_offsets, segments
from isogloss.kernels.cpu.loops.sums import dot
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.values.codes import Codes

_FEATURES = 32


def value_slopes(codes: Codes, grad: Tensor, weight: Tensor) -> Tensor:
    """``<grad[row], weight[feature]>`` of every entry, float32, shaped as the values."""
    out = torch.empty(codes.values.shape)
    with parallel_loops():
        _slopes(
            codes.indices.reshape(-1).numpy(),
            row_offsets(codes).numpy(),
            grad.float().contiguous().numpy(),
            weight.float().numpy(),
            out.view(-1).numpy(),
        )
    return out


def feature_sums(codes: Codes, x: Tensor) -> tuple[Tensor, Tensor]:
    """``isogloss.kernels.gradients.feature_sums`` on the CPU."""
    found = segments(codes)
    sums = torch.empty(codes.features, x.shape[1])
    totals = torch.empty(codes.features)
    with parallel_loops():
        _sum_features(
            codes.values.detach().float().reshape(-1).numpy(),
            *(part.numpy() for part in found),
            x.float().contiguous().numpy(),
            sums.numpy(),
            totals.numpy(),
        )
    return sums, totals


def sparse_gradients(
    codes: Codes, grad: Tensor, x: Tensor, decoder: Tensor, features: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of values, decoder, encoder and encoder bias in one pass.

    Args:
        codes: the codes of ``rows`` rows.
        grad: gradient of the loss with respect to the reconstruction, ``[rows, width]``.
        x: the rows that were encoded, ``[rows, width]``.
        decoder: ``[features, width]``.
        features: int64, the features that get a row in the results; None: all.

    Returns:
        The gradients in that order, float32.
    """
    found = segments(codes)
    wanted = torch.arange(codes.features) if features is None else features
    width = decoder.shape[1]
    values = torch.zeros(codes.values.shape)
    to_decoder, to_encoder = torch.empty(len(wanted), width), torch.empty(len(wanted), width)
    to_bias = torch.empty(len(wanted))
    with parallel_loops():
        _gradients(
            codes.values.detach().float().reshape(-1).numpy(),
            *(part.numpy() for part in found),
            wanted.numpy(),
            grad.float().contiguous().numpy(),
            x.float().contiguous().numpy(),
            decoder.float().numpy(),
            values.view(-1).numpy(),
            to_decoder.numpy(),
            to_encoder.numpy(),
            to_bias.numpy(),
        )
    return values, to_decoder, to_encoder, to_bias


@njit(parallel=True, cache=True)
def _slopes(indices, offsets, grad, weight, out):
    for row in prange(grad.shape[0]):
        downhill = grad[row]
        for j in range(offsets[row], offsets[row + 1]):
            direction = weight[indices[j]]
            out[j] = dot(downhill, direction)


@njit(parallel=True, cache=True)
def _sum_features(values, starts, entries, rows, x, sums, totals):
    features, width = sums.shape
    for block in prange((features + _FEATURES - 1) // _FEATURES):
        for f in range(block * _FEATURES, min(features, (block + 1) * _FEATURES)):
            total = np.float32(0)
            out = sums[f]
            out[:] = np.float32(0)
            for t in range(starts[f], starts[f + 1]):
                value = values[entries[t]]
                source = x[rows[t]]
                total += value
                for i in range(width):
                    out[i] += value * source[i]
            totals[f] = total


@njit(parallel=True, cache=True)
def _gradients(
    values,
    starts,
    entries,
    rows,
    wanted,
    grad,
    x,
    decoder,
    to_values,
    to_decoder,
    to_encoder,
    to_bias,
):
    width = grad.shape[1]
    for block in prange((wanted.size + _FEATURES - 1) // _FEATURES):
        for place in range(block * _FEATURES, min(wanted.size, (block + 1) * _FEATURES)):
            f = wanted[place]
            direction, of_decoder, of_encoder = decoder[f], to_decoder[place], to_encoder[place]
            of_decoder[:] = np.float32(0)
            of_encoder[:] = np.float32(0)
            bias = np.float32(0)
            for t in range(starts[f], starts[f + 1]):
                value = values[entries[t]]
                downhill, source = grad[rows[t]], x[rows[t]]
                slope = dot(downhill, direction)
                for i in range(width):
                    of_decoder[i] += value * downhill[i]
                    of_encoder[i] += slope * source[i]
                bias += slope
                to_values[entries[t]] = slope
            to_bias[place] = bias
