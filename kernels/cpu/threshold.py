# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportCallIssue=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped)
"""encode_threshold on the CPU: a chunk of features at a time, compacted by numba.

A non-negative float32 orders as its bits do, so entries are compared as int32; a NaN of either sign
fires. A chunk is read once, to mark blocks of 128 features in which something fires; only those are
looked into, to count and to write.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.loops.chunks import Chunk, chunks
from isogloss.kernels.cpu.loops.threads import FAST, parallel_loops
from isogloss.kernels.values.codes import Codes
from isogloss.kernels.values.workspace import Workspace

BLOCK = 128
"""Features that are marked together."""

_NAN = np.int32(0x7FC00000)
_INF = np.int32(0x7F800000)
_MAGNITUDE = np.int32(0x7FFFFFFF)


class Firing(NamedTuple):
    """The entries that fire in a chunk, row after row."""

    values: Tensor
    """float32 ``[entries]``."""
    indices: Tensor
    """Feature of each entry, int32, ascending within a row."""
    counts: Tensor
    """Entries of each row of the chunk, int64."""


def encode_threshold(
    x: Tensor, weight: Tensor, bias: Tensor, limits: Tensor, workspace: Workspace
) -> Codes:
    """``isogloss.kernels.encode_threshold``; ``limits`` are float32 ``[features]``, not negative.

    Beside the result there are 24 MiB of pre-activations and the entries of up to 2,048 rows.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
        limits: float32 ``[features]``, not negative.
        workspace: scratch memory to reuse between calls.

    Returns:
        Ragged codes, features ascending within a row.
    """
    rows, features = x.shape[0], weight.shape[0]
    bits = limits.view(torch.int32)
    offsets = torch.zeros(rows + 1, dtype=torch.int64)
    blocks: list[tuple[Tensor, Tensor]] = []
    parts: list[Firing] = []
    for chunk in chunks(x.float(), weight.float(), bias.float(), workspace):
        stop = chunk.start + chunk.size
        limits_here = bits[chunk.start : stop]
        parts.append(firing(chunk, limits_here, marked(chunk, limits_here)))
        if stop == features:
            counts = torch.stack([part.counts for part in parts])
            offsets[chunk.rows.start + 1 : chunk.rows.stop + 1] = counts.sum(0)
            blocks.append(_joined(parts, counts))
            parts = []
    values = [block[0] for block in blocks] or [torch.empty(0)]
    indices = [block[1] for block in blocks] or [torch.empty(0, dtype=torch.int32)]
    return Codes(
        values=torch.cat(values),
        indices=torch.cat(indices),
        features=features,
        offsets=offsets.cumsum(0),
    )


def marked(chunk: Chunk, bits: Tensor) -> Tensor:
    """Blocks of 128 features of a chunk in which something fires, bool ``[rows, blocks]``.

    Args:
        chunk: of pre-activations.
        bits: int32 ``[chunk.size]``, the limits, not negative.

    Returns:
        The marks.
    """
    marks = torch.empty(chunk.pre.shape[0], -(-chunk.size // BLOCK), dtype=torch.bool)
    with parallel_loops():
        _mark_rows(chunk.pre.view(torch.int32).numpy(), bits.numpy(), marks.numpy())
    return marks


def firing(chunk: Chunk, bits: Tensor, marks: Tensor) -> Firing:
    """Entries of a chunk whose bits exceed those of their feature's limit, and NaNs.

    Args:
        chunk: of pre-activations.
        bits: int32 ``[chunk.size]``, not negative.
        marks: blocks to look into: by :func:`marked`, with these limits or lower ones.

    Returns:
        The entries, row after row.
    """
    counts = torch.empty(chunk.pre.shape[0], dtype=torch.int64)
    look = (chunk.pre.view(torch.int32).numpy(), bits.numpy(), marks.numpy())
    with parallel_loops():
        _count_rows(*look, counts.numpy())
    ends = counts.cumsum(0)
    entries = int(ends[-1])
    values, indices = torch.empty(entries), torch.empty(entries, dtype=torch.int32)
    starts, bits_out = (ends - counts).numpy(), values.view(torch.int32).numpy()
    with parallel_loops():
        _write_rows(*look, counts.numpy(), starts, chunk.start, bits_out, indices.numpy())
    return Firing(values, indices, counts)


def _joined(parts: list[Firing], counts: Tensor) -> tuple[Tensor, Tensor]:
    """The entries of the same rows in all chunks, row after row; ``counts`` ``[parts, rows]``."""
    if len(parts) == 1:
        return parts[0].values, parts[0].indices
    lengths = counts.sum(0)
    starts = lengths.cumsum(0) - lengths
    values = torch.empty(int(lengths.sum()))
    indices = torch.empty(values.numel(), dtype=torch.int32)
    for part in parts:
        sources = part.counts.cumsum(0) - part.counts
        with parallel_loops():
            _place_rows(
                part.values.numpy(),
                part.indices.numpy(),
                sources.numpy(),
                starts.numpy(),
                part.counts.numpy(),
                values.numpy(),
                indices.numpy(),
            )
        starts += part.counts
    return values, indices


@njit(fastmath=FAST, cache=True)
def _firing_among(keys, bits):
    total = np.int32(0)
    for i in range(keys.size):
        key = keys[i]
        total = np.int32(total + np.int32((key > bits[i]) | (key & _MAGNITUDE > _INF)))
    return total


@njit(parallel=True, fastmath=FAST, cache=True)
def _mark_rows(keys, bits, marks):
    for row in prange(keys.shape[0]):
        own = keys[row, : bits.size]
        for block in range(marks.shape[1]):
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            marks[row, block] = _firing_among(own[part], bits[part]) > 0


@njit(parallel=True, fastmath=FAST, cache=True)
def _count_rows(keys, bits, marks, counts):
    for row in prange(keys.shape[0]):
        own = keys[row, : bits.size]
        total = 0
        for block in range(marks.shape[1]):
            if marks[row, block]:
                part = slice(block * BLOCK, (block + 1) * BLOCK)
                total += _firing_among(own[part], bits[part])
        counts[row] = total


@njit(parallel=True, fastmath=FAST, cache=True)
def _write_rows(keys, bits, marks, counts, starts, start, values, indices):
    """Write what fires of the marked blocks; every element is written, and the place moves on.

    A branch at each element would be missed as often as something fires: 3 times the time. The
    last write of a row may lie one place behind its own, so rows are written apart and copied.
    """
    for row in prange(keys.shape[0]):
        count = counts[row]
        if count == 0:
            continue
        own = keys[row]
        found, owners = np.empty(count + 1, np.int32), np.empty(count + 1, np.int32)
        at = 0
        for block in range(marks.shape[1]):
            if not marks[row, block]:
                continue
            for i in range(block * BLOCK, min(bits.size, (block + 1) * BLOCK)):
                key = own[i]
                is_nan = (key & _MAGNITUDE) > _INF
                key = _NAN if is_nan else key
                found[at] = key
                owners[at] = start + i
                at += np.int64(key > bits[i])
        for i in range(count):
            values[starts[row] + i] = found[i]
            indices[starts[row] + i] = owners[i]


@njit(parallel=True, cache=True)
def _place_rows(values, indices, sources, starts, counts, out_values, out_indices):
    for row in prange(counts.size):
        source, start = sources[row], starts[row]
        for i in range(counts[row]):
            out_values[start + i] = values[source + i]
            out_indices[start + i] = indices[source + i]
