# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportCallIssue=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped, and
# counts a starred argument as one)
"""The second half of the fused step: from entries, slopes and errors to parameters that moved.

Entries are sorted by feature, and one feature after another has its two gradient rows summed,
projected, shortened and given to Adam, all in cache. A bound on the gradient takes two passes.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from isogloss.kernels.cpu.loops.adam import adam, adam_constants, keep_columns, normalise, project
from isogloss.kernels.cpu.loops.entries import row_offsets, sort_by_feature
from isogloss.kernels.cpu.loops.kept import is_kept, nothing_kept, room_to_keep, row_of
from isogloss.kernels.cpu.loops.sums import add_rows, column_sums, dot, less_rows, ordered_sum
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.values.codes import Codes
from isogloss.kernels.values.step import AdamMoments, StepSettings, Weights, WiredRows
from isogloss.kernels.values.workspace import Workspace

_FEATURES = 32


class Entries(NamedTuple):
    """What the passes over the rows found, as this pass needs it."""

    codes: Codes
    """Entries of the rows; with prefixes, of one row for each prefix and row."""
    slopes: Tensor
    """``<error[row], decoder[feature]>`` of every entry."""
    error: Tensor
    """Half the gradient to the reconstruction, but for the scale: ``[codes.rows, width]``."""
    scale: float
    """Gradient to the reconstruction / error."""


def move_features(
    wired: WiredRows,
    centred: Tensor,
    batches: list[Entries],
    weights: Weights,
    moments: AdamMoments,
    settings: StepSettings,
    step: int,
    workspace: Workspace,
) -> Tensor:
    """Move all parameters by the gradients of the batch, a feature at a time.

    Args:
        wired: rows that were read and reconstructed.
        centred: the rows that were encoded, ``[rows, width]``.
        batches: one or two sets of entries; the decoder bias has its gradient from the first.
        weights: overwritten by those after the step.
        moments: Adam's moments; overwritten by those after the step.
        settings: of the step.
        step: number of this step, from 1.
        workspace: scratch memory.

    Returns:
        How often each feature fired, int32 ``[features]``.
    """
    orders = [_sorted(batch.codes, workspace, f"order{n}") for n, batch in enumerate(batches)]
    counts = [starts.diff() for starts, _, _ in orders]
    weighted = (*_lists(centred, batches, orders), _arrays(weights), _columns(wired))
    # the decoder bias is subtracted before encoding where the rows read are those reconstructed
    blocks = 0 if wired.target is not None else -(-weights.features // _FEATURES)
    partial = workspace.take("partial", (blocks, weights.width)).numpy()
    outright = _outright_bias_gradient(batches[0], centred.shape[0])
    kept, shorter, of_bias = nothing_kept(), 1.0, None
    with parallel_loops():
        if settings.clip_norm is not None:
            numbers = weights.width + weights.target_width + 1
            kept = room_to_keep(torch.stack(counts).sum(0), numbers, workspace)
            squares = np.empty(weights.features, np.float64)
            _square_gradients(*weighted, kept, partial, squares, settings.unit_norm)
            of_bias = less_rows(outright, partial)
            norm = float(np.sqrt(ordered_sum(squares) + float(dot(of_bias, of_bias))))
            shorter = min(1.0, settings.clip_norm / norm) if norm > 0 else 1.0
        constants = adam_constants(
            settings.learning_rate, settings.beta1, settings.beta2, settings.epsilon, step
        )
        moved = (_arrays(moments.first), _arrays(moments.second))
        shares = partial if of_bias is None else partial[:0]
        settled = (_single(shorter), constants, settings.unit_norm, settings.lazy)
        _update_features(*weighted, *moved, kept, shares, *settled)
        of_bias = less_rows(outright, partial) if of_bias is None else of_bias
        of_bias *= _single(shorter)
        bias, (first, second) = weights.decoder_bias.numpy(), moved
        adam(bias, first[3], second[3], of_bias, constants)
    return counts[0].to(torch.int32)


_Order = tuple[Tensor, Tensor, Tensor]


def _lists(
    centred: Tensor, batches: list[Entries], orders: list[_Order]
) -> tuple[NDArray[np.float32], tuple[object, ...], tuple[object, ...]]:
    """Return what the loops read of the rows and of two batches, of which the second may be empty.

    One compiled loop serves one batch and two.
    """
    if len(batches) == 1:
        nowhere = torch.zeros_like(orders[0][0])
        batches, orders = [*batches, batches[0]], [*orders, (nowhere, *orders[0][1:])]
    main, aux = (
        (
            batch.codes.values.view(-1).numpy(),
            batch.slopes.view(-1).numpy(),
            *(part.numpy() for part in order),
            batch.error.numpy(),
            _single(batch.scale),
        )
        for batch, order in zip(batches, orders, strict=True)
    )
    times = batches[0].error.shape[0] // centred.shape[0]
    if times > 1:  # the rows of every prefix are encoded from the same row
        centred = centred.repeat(times, 1)
    return centred.numpy(), main, aux


def _arrays(weights: Weights) -> tuple[NDArray[np.float32], ...]:
    return tuple(tensor.numpy() for tensor in weights.named().values())


def _columns(wired: WiredRows) -> NDArray[np.int64]:
    return np.empty((0, 2), np.int64) if wired.columns is None else wired.columns.numpy()


def _outright_bias_gradient(batch: Entries, rows: int) -> NDArray[np.float32]:
    """Return the gradient of the decoder bias where it is added, ``[target_width]``."""
    sums = np.empty(batch.error.shape[1], np.float64)
    with parallel_loops():
        # with prefixes the first rows are those that sum the errors of all prefixes
        column_sums(batch.error[:rows].numpy(), sums)
    return (sums * _single(batch.scale)).astype(np.float32)


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


def _single(value: float) -> np.float32:
    """Return a float32; numba would compile a Python float as float64."""
    return np.float32(value)


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
def _feature_gradient(f, centred, main, aux, writes, columns, unit_norm, of_decoder, of_encoder):
    """Fill both gradient rows of a feature; returns its bias gradient."""
    of_encoder[:] = np.float32(0)
    of_decoder[:] = np.float32(0)
    bias = _add_entries(f, main, centred, of_decoder, of_encoder)
    bias += _add_entries(f, aux, centred, of_decoder, of_encoder)
    if columns.shape[0] > 0:
        keep_columns(of_decoder, columns[f, 0], columns[f, 1])
        keep_columns(of_encoder, columns[f, 0], columns[f, 1])
    if unit_norm:
        project(of_decoder, writes)
    return bias


@njit(cache=True)
def _has_term(f, main, aux):
    """Return whether anything of this step has a gradient to a feature."""
    return main[2][f + 1] > main[2][f] or aux[2][f + 1] > aux[2][f]


@njit(cache=True)
def _share_of(block, partial):
    """Return the block's row of ``partial``, set to 0; an empty one where there is none."""
    if partial.shape[0] == 0:
        return np.empty(0, np.float32)
    share = partial[block]
    share[:] = np.float32(0)
    return share


@njit(cache=True)
def _add_share(share, bias, reads):
    if bias != 0:
        for i in range(share.size):
            share[i] += bias * reads[i]


@njit(parallel=True, cache=True)
def _square_gradients(
    centred, main, aux, weights, columns, kept, partial, squares, unit_norm
) -> None:
    """Squared norm of the gradient of every feature, and ``partial`` as ``_update_features``.

    Gradients of the features that have a place in ``kept`` stay there.
    """
    encoder, _, decoder, _ = weights
    features, width = encoder.shape
    for block in prange((features + _FEATURES - 1) // _FEATURES):
        room = np.empty(width + decoder.shape[1] + 1, np.float32)
        share = _share_of(block, partial)
        for f in range(block * _FEATURES, min(features, (block + 1) * _FEATURES)):
            row = row_of(f, kept, room)
            of_encoder, of_decoder = row[:width], row[width:-1]
            bias = _feature_gradient(
                f, centred, main, aux, decoder[f], columns, unit_norm, of_decoder, of_encoder
            )
            row[-1] = bias
            _add_share(share, bias, encoder[f])
            squares[f] = dot(of_encoder, of_encoder) + dot(of_decoder, of_decoder) + bias * bias


@njit(parallel=True, cache=True)
def _update_features(
    centred, main, aux, weights, columns, first, second, kept, partial, shorter, constants,
    unit_norm, lazy,
) -> None:  # fmt: skip
    """Gradients, projection, Adam and normalising of every feature.

    ``partial[block]`` becomes the block's share of ``bias gradient @ encoder`` (before the update,
    and before the gradients are multiplied by ``shorter``); an empty ``partial`` stays as it is.
    With ``lazy`` a feature whose gradient has no term is not moved, nor its moments.
    """
    encoder, encoder_bias, decoder, _ = weights
    features, width = encoder.shape
    for block in prange((features + _FEATURES - 1) // _FEATURES):
        room = np.empty(width + decoder.shape[1] + 1, np.float32)
        share = _share_of(block, partial)
        for f in range(block * _FEATURES, min(features, (block + 1) * _FEATURES)):
            if lazy and not _has_term(f, main, aux):
                continue
            reads, writes = encoder[f], decoder[f]
            row = row_of(f, kept, room)
            of_encoder, of_decoder, of_bias = row[:width], row[width:-1], row[-1:]
            if not is_kept(f, kept):
                of_bias[0] = _feature_gradient(
                    f, centred, main, aux, writes, columns, unit_norm, of_decoder, of_encoder
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
