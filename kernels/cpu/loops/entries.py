# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped)
"""Entries of codes: where a row's entries lie, and the entries in the order of their features."""

from typing import NamedTuple

import torch
from numba import njit
from torch import Tensor

from isogloss.kernels.values.codes import Codes


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
