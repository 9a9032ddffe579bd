# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped)
"""AuxK of few dead features on the CPU: products of all rows with all of them, by torch's GEMM.

An entry that is added on its own costs about six times what it costs in a GEMM, so up to four times
``aux_k`` features are taken whole, and those that AuxK does not choose are 0.

A GEMM gives the same bits for any number of threads where 16 divides its sizes and a sum has at
most 256 terms: so it was for 1, 2, 3, 4 and 8 threads on each of 1,600 random shapes. MKL cuts
longer sums by the number of threads.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from torch.nn.functional import pad

from isogloss.kernels.cpu.loops.chunks import chunks
from isogloss.kernels.cpu.loops.select import keep_topk
from isogloss.kernels.cpu.loops.sums import column_sums, ordered_sum, row_squares
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.values.step import Weights
from isogloss.kernels.values.workspace import Workspace

_TIMES = 4
_EVEN = 16
_TERMS = 256
_TINY = 1e-30


class DeadGradients(NamedTuple):
    """Gradients of AuxK, a row for each dead feature and some rows of zeros."""

    places: Tensor
    """Row of each feature, int32 ``[features]``; -1: it is not dead."""
    encoder: Tensor
    """``[dead, at least width]``."""
    decoder: Tensor
    """``[dead, at least target_width]``."""
    bias: Tensor
    """``[dead]``."""


def are_few(dead: int, aux_k: int) -> bool:
    """Return whether so many dead features are taken whole."""
    return dead <= _TIMES * aux_k


def dead_values(
    centred: Tensor,
    weights: Weights,
    dead: Tensor,
    aux_k: int,
    norms: Tensor | None,
    workspace: Workspace,
) -> Tensor:
    """Return the values of the dead features of each row, 0 where AuxK does not choose them.

    Args:
        centred: the rows that are encoded, ``[rows, width]``.
        weights: of the dictionary.
        dead: the dead features, int32 ascending.
        aux_k: how many of them a row uses.
        norms: of all decoder rows, by which values are multiplied for the choice; None: 1.
        workspace: scratch memory.

    Returns:
        Float32, rows and columns filled up with zeros to multiples of 16.
    """
    rows, count, chosen = centred.shape[0], dead.numel(), dead.long()
    values = workspace.take("dead_values", (_even(rows), _even(count))).zero_()
    factor = None if norms is None else norms[chosen]
    encoder, bias = weights.encoder[chosen], weights.encoder_bias[chosen]
    for chunk in chunks(centred, encoder, bias, workspace, factor):
        columns = slice(chunk.start, chunk.start + chunk.size)
        values[chunk.rows, columns] = chunk.pre[:, : chunk.size]
    values.relu_()
    if count > aux_k:
        keep_topk(values, aux_k)
    if factor is not None:
        values[:, :count] /= factor.clamp_min(_TINY)
    return values


def aux_gradients(
    centred: Tensor,
    residual: Tensor,
    values: Tensor,
    weights: Weights,
    dead: Tensor,
    scale: float,
    workspace: Workspace,
) -> tuple[float, DeadGradients]:
    """Return the squared error of AuxK's reconstruction, and the gradients of ``scale / 2`` of it.

    Args:
        centred: the rows that were encoded, ``[rows, width]``.
        residual: reconstruction less target, ``[rows, target_width]``; AuxK's target is its
            negative.
        values: from :func:`dead_values`.
        weights: of the dictionary.
        dead: the dead features, int32 ascending.
        scale: factor of the gradients.
        workspace: scratch memory.
    """
    rows, target_width = residual.shape
    source, directions = _filled(centred), _filled(weights.decoder[dead.long()])
    error = workspace.take("aux_error", (values.shape[0], directions.shape[1])).zero_()
    error[:rows, :target_width] = residual
    _add_product(error, values, directions)
    squares = torch.empty(rows, dtype=torch.float64)
    slopes = workspace.take("pre", tuple(values.shape)).zero_()  # its content is done with
    _add_product(slopes, error, directions.T)
    with parallel_loops():
        _keep_where_values_are(slopes.numpy(), values.numpy())
    of_encoder = torch.zeros(values.shape[1], source.shape[1])
    of_decoder = torch.zeros(values.shape[1], error.shape[1])
    _add_product(of_encoder, slopes.T, source)
    _add_product(of_decoder, values.T, error)
    of_bias = torch.empty(values.shape[1], dtype=torch.float64)
    with parallel_loops():
        row_squares(error[:rows].numpy(), squares.numpy())
        column_sums(slopes.numpy(), of_bias.numpy())
    places = torch.full((weights.features,), -1, dtype=torch.int32)
    places[dead.long()] = torch.arange(dead.numel(), dtype=torch.int32)
    return float(ordered_sum(squares.numpy())), DeadGradients(
        places=places,
        encoder=of_encoder.mul_(scale),
        decoder=of_decoder.mul_(scale),
        bias=of_bias.mul_(scale).float(),
    )


def no_gradients() -> DeadGradients:
    """Return gradients of no feature."""
    rows = torch.empty(0, 0)
    return DeadGradients(torch.empty(0, dtype=torch.int32), rows, rows, torch.empty(0))


def _add_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` to ``out``, a few terms of each sum at a time."""
    for start in range(0, left.shape[1], _TERMS):
        out.addmm_(left[:, start : start + _TERMS], right[start : start + _TERMS])


@njit(parallel=True, cache=True)
def _keep_where_values_are(slopes, values) -> None:
    """Set the slopes of entries without a value to 0."""
    for row in prange(values.shape[0]):
        for i in range(values.shape[1]):
            if values[row, i] == 0:
                slopes[row, i] = np.float32(0)


def _even(number: int) -> int:
    return -(-number // _EVEN) * _EVEN


def _filled(matrix: Tensor) -> Tensor:
    """Return a matrix with zeros behind its rows and columns, up to multiples of 16."""
    missing = (0, -matrix.shape[1] % _EVEN, 0, -matrix.shape[0] % _EVEN)
    return pad(matrix, missing) if any(missing) else matrix
