# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportCallIssue=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped, and
# counts a starred argument as one)
"""Decode and its gradients on the CPU, by numba: a row, or a feature, belongs to one thread."""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.codes import Codes
from isogloss.kernels.cpu.sums import dot
from isogloss.kernels.cpu.threads import parallel_loops

_FEATURES = 32


class Segments(NamedTuple):
    """Entries of codes in the order of their features, then rows; entries of value 0 left out."""

    starts: Tensor
    """Where each feature's entries begin, int64 ``[features + 1]``."""
    entries: Tensor
    """Position of each entry in the codes, int64."""
    rows: Tensor
    """Row of each entry, int32."""


def row_offsets(codes: Codes) -> Tensor:
    """Where each row's entries begin and end, int64 ``[rows + 1]``, ragged or not."""
    if codes.offsets is not None:
        return codes.offsets
    return torch.arange(codes.rows + 1) * codes.k


def segments(codes: Codes) -> Segments:
    """Counting sort of the entries by feature; stable, so rows ascend within a feature."""
    values = codes.values.detach().float().reshape(-1)
    starts = torch.zeros(codes.features + 1, dtype=torch.int64)
    entries = torch.empty(values.numel(), dtype=torch.int64)
    rows = torch.empty(values.numel(), dtype=torch.int32)
    kept = sort_by_feature(
        values.numpy(),
        codes.indices.reshape(-1).numpy(),
        row_offsets(codes).numpy(),
        starts.numpy(),
        entries.numpy(),
        rows.numpy(),
    )
    return Segments(starts, entries[:kept], rows[:kept])


def decode(codes: Codes, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Reconstruction ``[rows, width]`` float32; see ``isogloss.kernels.decode``."""
    out = torch.empty(codes.rows, weight.shape[1])
    start = torch.zeros(weight.shape[1]) if bias is None else bias.float()
    with parallel_loops():
        _decode_rows(
            codes.values.detach().float().reshape(-1).numpy(),
            codes.indices.reshape(-1).numpy(),
            row_offsets(codes).numpy(),
            weight.float().numpy(),
            start.numpy(),
            out.numpy(),
        )
    return out


def decode_loss(
    codes: Codes, weight: Tensor, bias: Tensor | None, target: Tensor
) -> tuple[Tensor, Tensor]:
    """``isogloss.kernels.decode_loss``: squared norms ``[rows]`` and residual, both float32."""
    residual = torch.empty(codes.rows, weight.shape[1])
    squares = torch.empty(codes.rows)
    start = torch.zeros(weight.shape[1]) if bias is None else bias.float()
    with parallel_loops():
        _decode_residuals(
            codes.values.float().reshape(-1).numpy(),
            codes.indices.reshape(-1).numpy(),
            row_offsets(codes).numpy(),
            weight.float().numpy(),
            start.numpy(),
            target.float().contiguous().numpy(),
            residual.numpy(),
            squares.numpy(),
        )
    return squares, residual


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
    """Gradients to values, decoder, encoder and encoder bias in one pass over the features.

    Args:
        codes: with ``rows`` rows.
        grad: gradient to the reconstruction, ``[rows, width]``.
        x: what was encoded, ``[rows, width]``.
        decoder: ``[features, width]``.
        features: int64, which features get a row in the results; None: all.
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


@njit(cache=True)
def sort_by_feature(values, indices, offsets, starts, entries, rows) -> int:
    """Fill ``starts [features + 1]`` (zeros on entry), ``entries``, ``rows``; returns how many."""
    features = starts.size - 1
    for i in range(indices.size):
        if values[i] != 0:
            starts[indices[i] + 1] += 1
    for f in range(features):
        starts[f + 1] += starts[f]
    place = starts[:features].copy()
    for row in range(offsets.size - 1):
        for i in range(offsets[row], offsets[row + 1]):
            if values[i] != 0:
                f = indices[i]
                entries[place[f]] = i
                rows[place[f]] = row
                place[f] += 1
    return starts[features]


@njit(parallel=True, cache=True)
def _decode_rows(values, indices, offsets, weight, bias, out):
    rows, width = out.shape
    for row in prange(rows):
        total = out[row]
        for i in range(width):
            total[i] = bias[i]
        for j in range(offsets[row], offsets[row + 1]):
            value = values[j]
            direction = weight[indices[j]]
            if value != 0:
                for i in range(width):
                    total[i] += value * direction[i]


@njit(parallel=True, cache=True)
def _decode_residuals(values, indices, offsets, weight, bias, target, out, squares):
    rows, width = out.shape
    for row in prange(rows):
        total, aim = out[row], target[row]
        for i in range(width):
            total[i] = bias[i] - aim[i]
        for j in range(offsets[row], offsets[row + 1]):
            value = values[j]
            direction = weight[indices[j]]
            if value != 0:
                for i in range(width):
                    total[i] += value * direction[i]
        squares[row] = dot(total, total)


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
