"""Codes: for each row, the features that fire and their activations."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.debug_mode import reads_content
from isogloss.short_repr import short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class Codes:
    """Sparse feature activations of some rows, either ``k`` a row or ragged."""

    values: Tensor
    """Activation of each entry: ``[rows, k]``, or ``[entries]`` when ragged; float."""
    indices: Tensor
    """Feature of each entry, int32, shaped as ``values``, each in ``[0, features)``."""
    features: int
    """Number of features of the dictionary that made these codes."""
    offsets: Tensor | None = None
    """Position where each row's entries begin, and the end, int64 ``[rows + 1]``; None with ``k`` a
    row.
    """

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if self.values.shape != self.indices.shape:
            raise ShapeError(
                f"values {tuple(self.values.shape)} and indices {tuple(self.indices.shape)} "
                "must match"
            )
        if self.indices.dtype != torch.int32:
            raise ShapeError(f"indices are {self.indices.dtype}; convert them to torch.int32")
        if not self.values.dtype.is_floating_point:
            raise ShapeError(f"values are {self.values.dtype}; a floating dtype is wanted")
        if self.features < 1:
            raise InvalidInput(f"features is {self.features}; a dictionary has at least 1")
        if self.offsets is None:
            if self.values.ndim != 2:
                raise ShapeError(
                    f"values have {self.values.ndim} dimensions; "
                    "[rows, k] is wanted, or pass offsets"
                )
            return
        if self.values.ndim != 1 or self.offsets.ndim != 1 or self.offsets.numel() < 1:
            raise ShapeError(
                f"ragged codes want values [entries] and offsets [rows + 1], found "
                f"{tuple(self.values.shape)} and {tuple(self.offsets.shape)}"
            )
        if self.offsets.dtype != torch.int64:
            raise ShapeError(f"offsets are {self.offsets.dtype}; convert them to torch.int64")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.values.shape[0] if self.offsets is None else self.offsets.numel() - 1

    @property
    def is_ragged(self) -> bool:
        """Whether rows may have different numbers of entries."""
        return self.offsets is not None

    @property
    def k(self) -> int:
        """Entries of every row.

        Raises:
            InvalidInput: the codes are ragged.
        """
        if self.offsets is not None:
            raise InvalidInput("ragged codes have no k; use offsets")
        return self.values.shape[1]

    def with_values(self, values: Tensor) -> "Codes":
        """Return the same entries with other values."""
        return Codes(
            values=values, indices=self.indices, features=self.features, offsets=self.offsets
        )

    def to_ragged(self) -> "Codes":
        """Return the canonical ragged form: no zero values, indices ascending within a row."""
        if self.offsets is None:
            rows = torch.arange(self.rows, device=self.values.device).repeat_interleave(self.k)
        else:
            counts = self.offsets.diff()
            rows = torch.repeat_interleave(
                torch.arange(self.rows, device=self.values.device), counts
            )
        values, indices = self.values.reshape(-1), self.indices.reshape(-1)
        kept = values != 0
        rows, values, indices = rows[kept], values[kept], indices[kept]
        order = torch.argsort(rows * self.features + indices, stable=True)
        offsets = torch.zeros(self.rows + 1, dtype=torch.int64, device=values.device)
        offsets[1:] = torch.bincount(rows, minlength=self.rows).cumsum(0)
        return Codes(
            values=values[order],
            indices=indices[order],
            features=self.features,
            offsets=offsets,
        )

    def to_fixed(self) -> "Codes":
        """Return codes of as many entries a row as the fullest row has, strongest first.

        Rows with fewer are filled up with values of 0 at feature 0. Codes that have ``k`` a row are
        returned as they are.
        """
        if self.offsets is None:
            return self
        counts = self.offsets.diff()
        most = int(counts.max()) if counts.numel() else 0
        device = self.values.device
        rows = torch.repeat_interleave(torch.arange(self.rows, device=device), counts)
        # stable sorts, least important key first: features ascend among equal values
        order = torch.argsort(self.indices, stable=True)
        order = order[torch.argsort(self.values[order], descending=True, stable=True)]
        order = order[torch.argsort(rows[order], stable=True)]
        places = torch.arange(self.values.numel(), device=device) - self.offsets[:-1][rows]
        values = self.values.new_zeros(self.rows, most)
        indices = self.indices.new_zeros(self.rows, most)
        values[rows, places] = self.values[order]
        indices[rows, places] = self.indices[order]
        return Codes(values=values, indices=indices, features=self.features)


def check_codes(codes: Codes, weight: Tensor) -> None:
    """Raise unless the codes belong to a dictionary with that decoder.

    Indices and offsets are read on the CPU, and on a device in debug mode only: the answer would
    stop the device's queue.

    Args:
        codes: fixed ``k`` or ragged.
        weight: decoder directions, ``[features, width]``.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: an index or offset is out of range, or a weight is not finite.
    """
    checks.matrix("weight", weight, rows=codes.features)
    checks.floating(values=codes.values, weight=weight)
    checks.one_device(values=codes.values, indices=codes.indices, weight=weight)
    checks.contiguous(weight=weight)
    checks.finite(weight=weight)
    if reads_content(weight):
        checks.indices_within(codes.indices, codes.features)
        if codes.offsets is not None:
            checks.offsets_within(codes.offsets, codes.values.numel())
