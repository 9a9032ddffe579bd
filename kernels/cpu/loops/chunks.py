"""Pre-activations a piece at a time, by torch's GEMM into one reused buffer."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from isogloss.kernels.cpu.loops.products import even, filled, multiply
from isogloss.kernels.values.workspace import Workspace

_CHUNK_BYTES = 24 << 20
_ROWS = 2048
_EVEN = 16


class Chunk(NamedTuple):
    """Pre-activations of some rows at some features."""

    rows: slice
    """The rows of the chunk."""
    start: int
    """The first feature."""
    size: int
    """How many features the chunk has."""
    pre: Tensor
    """``[rows, at least size]`` float32; columns from ``size`` on mean nothing."""


def chunks(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    workspace: Workspace,
    scale: Tensor | None = None,
) -> Iterator[Chunk]:
    """Yield ``x @ weight.T + bias`` in pieces of at most 24 MiB, all in one reused buffer.

    Up to 2,048 rows by a chunk of features: the weights are read once for all of those rows, and
    the piece stays in the last-level cache between GEMM and selection. (At 2048 x 768 -> 24576,
    chunks of 256 rows by all features cost 1.26 times the processor time of these.) Features
    ascend.

    Rows and features are filled up to multiples of 16, and sums are cut in fixed places, so that
    the bits do not depend on the number of threads: see ``products.py``.

    Args:
        x: float32 ``[rows, width]``.
        weight: float32 ``[features, width]``.
        bias: float32 ``[features]``.
        workspace: holds the buffer.
        scale: float32 ``[features]``, a factor of each feature's pre-activations; None: 1.

    Yields:
        One chunk after another; its memory is used again for the next.
    """
    features, width = weight.shape
    for top in range(0, x.shape[0], _ROWS):
        part = x[top : top + _ROWS]
        rows = part.shape[0]
        if rows % _EVEN:
            part = filled(part, workspace.take("last_rows", (even(rows), width)))
        step = max(_EVEN, _CHUNK_BYTES // (4 * part.shape[0]) // _EVEN * _EVEN)
        for start in range(0, features, step):
            directions, offsets = weight[start : start + step], bias[start : start + step]
            count = directions.shape[0]
            if scale is not None:
                factor, room = scale[start : start + step], workspace.take("scaled", (count, width))
                directions = torch.mul(directions, factor[:, None], out=room)
                offsets = offsets * factor
            if count % _EVEN:
                room = workspace.take("last_directions", (even(count), width))
                directions = filled(directions, room)
                offsets = filled(offsets, workspace.take("last_offsets", (even(count),)))
            pre = workspace.take("pre", (part.shape[0], directions.shape[0]))
            multiply(part, directions.T, pre, offsets)
            yield Chunk(slice(top, top + rows), start, count, pre[:rows])
