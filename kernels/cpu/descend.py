# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportCallIssue=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped, and
# counts a starred argument as one)
"""descend_entries on the CPU: a feature's two gradient rows, Adam and normalising in cache."""

from collections.abc import Mapping

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.adam import adam_step
from isogloss.kernels.cpu.loops.adam import adam, adam_constants, keep_columns, normalise, project
from isogloss.kernels.cpu.loops.entries import row_offsets, sort_by_feature
from isogloss.kernels.cpu.loops.kept import is_kept, nothing_kept, room_to_keep, row_of
from isogloss.kernels.cpu.loops.sums import add_rows, dot, less_rows
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.reference import AdamSettings
from isogloss.kernels.values.descent import DescentSettings, EntryGradients, moving
from isogloss.kernels.values.workspace import Workspace

_FEATURES = 32
_TINY = np.float32(1e-30)


def descend_entries(
    parameters: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    given: EntryGradients,
    settings: DescentSettings,
    step: int,
    columns: Tensor | None,
    workspace: Workspace,
) -> None:
    """``isogloss.kernels.descend_entries``.

    Args:
        parameters: by name; overwritten.
        first: Adam's first moments; overwritten.
        second: Adam's second moments; overwritten.
        given: the gradients by entry.
        settings: of the optimiser.
        step: number of this step, from 1.
        columns: columns of each feature; None: all.
        workspace: scratch memory.
    """
    encoder = parameters["encoder"]
    features, width = encoder.shape
    found, counts = _arguments(given, parameters, columns)
    shares = torch.empty(-(-features // _FEATURES), width).numpy()
    through = given.through is not None
    kept, shorter, of_bias = nothing_kept(), 1.0, given.decoder_bias
    squares = torch.zeros(features, dtype=torch.float64)
    if settings.clip_norm is not None or through:
        kept = room_to_keep(counts, width + parameters["decoder"].shape[1], workspace)
        with parallel_loops():
            _square_gradients(*found, kept, settings.unit_norm, shares, squares.numpy())
            if through:
                of_bias = torch.from_numpy(less_rows(given.decoder_bias.numpy(), shares))
    vectors = {**given.vectors, "decoder_bias": of_bias}
    if settings.clip_norm is not None:
        every = [squares, *(one.double().square() for one in vectors.values())]
        norm = sum(float(np.cumsum(one.numpy())[-1]) for one in every) ** 0.5
        shorter = min(1.0, settings.clip_norm / norm) if norm > 0 else 1.0
    betas = (settings.beta1, settings.beta2, settings.epsilon)
    constants = adam_constants(settings.learning_rate, *betas, step)
    moments = (first["encoder"], second["encoder"], first["decoder"], second["decoder"])
    arrays = tuple(moment.numpy() for moment in moments)
    moved = given.moved() if settings.lazy else None
    marks = np.empty(0, np.bool_) if moved is None else moved.numpy()
    settled = (marks, settings.unit_norm, np.float32(shorter))
    with parallel_loops():
        _update_features(*found, kept, *settled, arrays, constants)
    slopes = {name: slope * shorter for name, slope in vectors.items()}
    _move_vectors(parameters, first, second, slopes, settings, step, moved)


def _move_vectors(
    parameters: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    slopes: Mapping[str, Tensor],
    settings: DescentSettings,
    step: int,
    moved: Tensor | None,
) -> None:
    """Take the step of every parameter that is a vector, of the features in ``moved`` or of all."""
    plain = AdamSettings(
        learning_rate=settings.learning_rate,
        beta1=settings.beta1,
        beta2=settings.beta2,
        epsilon=settings.epsilon,
    )
    for name, slope in slopes.items():
        own = (parameters[name], first[name], second[name])
        with moving(own, None if name == "decoder_bias" else moved):
            adam_step(*own, slope, plain, step)


def _arguments(
    given: EntryGradients, parameters: Mapping[str, Tensor], columns: Tensor | None
) -> tuple[tuple[object, ...], Tensor]:
    """Return what both loops read (entries by feature, rows, weights, and what is rare), and how
    many entries each feature has."""
    codes, features = given.codes, parameters["encoder"].shape[0]
    values, slopes = codes.values.reshape(-1).numpy(), given.slopes.reshape(-1).numpy()
    counts = (values != 0) | (slopes != 0)
    starts = np.zeros(features + 1, np.int64)
    order, rows = np.empty(values.size, np.int64), np.empty(values.size, np.int32)
    indices, offsets = codes.indices.reshape(-1).numpy(), row_offsets(codes).numpy()
    sort_by_feature(counts.view(np.uint8), indices, offsets, starts, order, rows)
    places = np.full(features if given.more_features is not None else 0, -1, np.int32)
    more = np.empty((0, given.source.shape[1]), np.float32)
    if given.more_features is not None and given.more_rows is not None:
        places[given.more_features.numpy()] = np.arange(len(given.more_features), dtype=np.int32)
        more = given.more_rows.contiguous().numpy()
    parts = given.parts or (range(parameters["decoder"].shape[1]),)
    nothing = np.empty(0, np.float32)
    found = (
        (values, slopes, starts, order, rows),
        (given.source.contiguous().numpy(), given.downhill.contiguous().numpy()),
        (parameters["encoder"].numpy(), parameters["decoder"].numpy()),
        nothing if given.radial is None else given.radial.contiguous().numpy(),
        np.array([(part.start, part.stop) for part in parts], np.int64),
        (places, more),
        nothing if given.through is None else given.through.contiguous().numpy(),
        np.empty((0, 2), np.int64) if columns is None else columns.numpy(),
    )
    return found, torch.from_numpy(starts).diff()


@njit(cache=True)
def _gradient_rows(
    f, entries, rows, writes, radial, parts, more, columns, unit_norm, of_encoder, of_decoder
):
    """Fill both gradient rows of a feature."""
    values, slopes, starts, order, owners = entries
    source, downhill = rows
    places, more_rows = more
    of_encoder[:] = np.float32(0)
    of_decoder[:] = np.float32(0)
    one, first, last = np.float32(1), starts[f], starts[f + 1]
    add_rows(of_decoder, downhill, values, order, owners, first, last, one)
    add_rows(of_encoder, source, slopes, order, owners, first, last, one)
    if radial.size > 0:
        for p in range(parts.shape[0]):
            own = writes[parts[p, 0] : parts[p, 1]]
            share = radial[f] / max(np.sqrt(dot(own, own)), _TINY)
            for i in range(own.size):
                of_decoder[parts[p, 0] + i] += share * own[i]
    if places.size > 0 and places[f] >= 0:
        extra = more_rows[places[f]]
        for i in range(of_encoder.size):
            of_encoder[i] += extra[i]
    if columns.shape[0] > 0:
        keep_columns(of_decoder, columns[f, 0], columns[f, 1])
        keep_columns(of_encoder, columns[f, 0], columns[f, 1])
    if unit_norm:
        project(of_decoder, writes)


@njit(parallel=True, cache=True)
def _square_gradients(
    entries, rows, weights, radial, parts, more, through, columns, kept, unit_norm, shares, squares
) -> None:
    """Squared norm of the gradient rows of every feature; each block's ``through @ encoder``.

    Gradients of the features that have a place in ``kept`` stay there.
    """
    encoder, decoder = weights
    features, width = encoder.shape
    for block in prange((features + _FEATURES - 1) // _FEATURES):
        room = np.empty(width + decoder.shape[1], np.float32)
        share = shares[block]
        share[:] = np.float32(0)
        for f in range(block * _FEATURES, min(features, (block + 1) * _FEATURES)):
            own = row_of(f, kept, room)
            of_encoder, of_decoder = own[:width], own[width:]
            _gradient_rows(
                f, entries, rows, decoder[f], radial, parts, more, columns, unit_norm,
                of_encoder, of_decoder,
            )  # fmt: skip
            squares[f] = dot(of_encoder, of_encoder) + dot(of_decoder, of_decoder)
            if through.size > 0 and through[f] != 0:
                reads = encoder[f]
                for i in range(width):
                    share[i] += through[f] * reads[i]


@njit(parallel=True, cache=True)
def _update_features(
    entries, rows, weights, radial, parts, more, through, columns, kept, moved,
    unit_norm, shorter, moments, constants,
) -> None:  # fmt: skip
    """Gradients, projection, bound, Adam and normalising of every feature."""
    encoder, decoder = weights
    features, width = encoder.shape
    encoder_first, encoder_second, decoder_first, decoder_second = moments
    for block in prange((features + _FEATURES - 1) // _FEATURES):
        room = np.empty(width + decoder.shape[1], np.float32)
        for f in range(block * _FEATURES, min(features, (block + 1) * _FEATURES)):
            if moved.size > 0 and not moved[f]:
                continue
            writes, own = decoder[f], row_of(f, kept, room)
            of_encoder, of_decoder = own[:width], own[width:]
            if not is_kept(f, kept):
                _gradient_rows(
                    f, entries, rows, writes, radial, parts, more, columns, unit_norm,
                    of_encoder, of_decoder,
                )  # fmt: skip
            for i in range(own.size):
                own[i] *= shorter
            adam(encoder[f], encoder_first[f], encoder_second[f], of_encoder, constants)
            adam(writes, decoder_first[f], decoder_second[f], of_decoder, constants)
            if unit_norm:
                normalise(writes)
