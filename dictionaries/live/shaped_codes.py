"""Codes of activations of any shape: sparse inside, dense where that is asked for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isogloss.kernels import Codes


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShapedCodes:
    """The features that fire on each of some activations ``[*shape, width]``."""

    codes: Codes
    """Of all rows, one after another; values in float32, part of autograd's graph."""
    shape: tuple[int, ...]
    """All dimensions of the activations but the last."""
    dtype: torch.dtype
    """Of the activations, in which :meth:`dense` and the reconstruction are given."""

    @property
    def features(self) -> int:
        """Number of features of the dictionary."""
        return self.codes.features

    def __repr__(self) -> str:
        """Name shapes, not the numbers."""
        entries = self.codes.values.numel()
        return (
            f"ShapedCodes(shape={list(self.shape)}, features={self.features}, entries={entries}, "
            f"dtype={self.dtype})"
        )

    def dense(self) -> Tensor:
        """Return the activation of every feature, ``[*shape, features]``, 0 where it does not fire.

        Gradients flow to the values. A dense array takes ``features / k`` times the memory of the
        sparse one.
        """
        codes = self.codes
        values, indices = codes.values.reshape(-1), codes.indices.reshape(-1).long()
        every = torch.arange(codes.rows, device=values.device)
        counts = codes.k if codes.offsets is None else codes.offsets.diff()
        rows = torch.repeat_interleave(every, counts)
        empty = values.new_zeros(codes.rows * codes.features)
        # entries of value 0 may name one feature twice: they add nothing
        filled = empty.scatter_add(0, rows * codes.features + indices, values)
        return filled.reshape(*self.shape, codes.features).to(self.dtype)
