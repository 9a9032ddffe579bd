# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped)
"""AuxK of few dead features on the CPU: products of all rows with all of them, by torch's GEMM.

An entry that is added on its own costs about six times what it costs in a GEMM, so up to four times
``aux_k`` features are taken whole, and those that AuxK does not choose are 0.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.loops.products import add_product, even, filled, multiply
from isogloss.kernels.cpu.loops.select import keep_topk
from isogloss.kernels.cpu.loops.sums import column_sums, ordered_sum, row_squares
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.values.step import Weights
from isogloss.kernels.values.workspace import Workspace

_TIMES = 4
_TINY = 1e-30


class DeadGradients(NamedTuple):
    """Gradients of AuxK, a row for each dead feature and some rows of zeros."""

    places: Tensor
    """Row of each feature, int32 ``[features]``; -1: AuxK uses it on no row."""
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
    factor = None if norms is None else norms[chosen]
    encoder, bias = weights.encoder[chosen], weights.encoder_bias[chosen]
    if factor is not None:
        encoder, bias = encoder * factor[:, None], bias * factor
    values = workspace.take("dead_values", (even(rows), even(count)))
    multiply(_even_rows(centred, "dead_rows", workspace), _filled(encoder).T, values)
    values[:, :count] += bias
    values[rows:] = 0.0
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
    rows = residual.shape[0]
    source = _even_rows(centred, "dead_rows", workspace)
    directions = _filled(weights.decoder[dead.long()])
    error = workspace.take("aux_error", (values.shape[0], directions.shape[1]))
    add_product(values, directions, filled(residual, error))
    squares = torch.empty(rows, dtype=torch.float64)
    slopes = workspace.take("pre", tuple(values.shape))  # its content is done with
    multiply(error, directions.T, slopes)
    with parallel_loops():
        _keep_where_values_are(slopes.numpy(), values.numpy())
    of_encoder = torch.empty(values.shape[1], source.shape[1])
    of_decoder = torch.empty(values.shape[1], error.shape[1])
    multiply(slopes.T, source, of_encoder)
    multiply(values.T, error, of_decoder)
    of_bias = torch.empty(values.shape[1], dtype=torch.float64)
    with parallel_loops():
        row_squares(error[:rows].numpy(), squares.numpy())
        column_sums(slopes.numpy(), of_bias.numpy())
    places = torch.full((weights.features,), -1, dtype=torch.int32)
    used = values[:, : dead.numel()].any(0)  # a NaN is not 0 either
    places[dead[used].long()] = used.nonzero().squeeze(1).int()
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


@njit(parallel=True, cache=True)
def _keep_where_values_are(slopes, values) -> None:
    """Set the slopes of entries without a value to 0."""
    for row in prange(values.shape[0]):
        for i in range(values.shape[1]):
            if values[row, i] == 0:
                slopes[row, i] = np.float32(0)


def _even_rows(rows: Tensor, name: str, workspace: Workspace) -> Tensor:
    """Return rows with zeros behind rows and columns up to multiples of 16; even ones as they are.

    Asked a second time in a step, it fills the same buffer with the same numbers.
    """
    wanted = (even(rows.shape[0]), even(rows.shape[1]))
    return rows if wanted == tuple(rows.shape) else filled(rows, workspace.take(name, wanted))


def _filled(matrix: Tensor) -> Tensor:
    """Return a small matrix with zeros behind rows and columns up to multiples of 16."""
    wanted = (even(matrix.shape[0]), even(matrix.shape[1]))
    return matrix if wanted == tuple(matrix.shape) else filled(matrix, torch.empty(wanted))
