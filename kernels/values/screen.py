"""An encoder in 8 bits, with how far each direction is off."""

from dataclasses import dataclass

from torch import Tensor

from isogloss.short_repr import short_repr

SMALLEST = 1e-30
"""Rows and directions of smaller numbers are not split into steps: all of them is left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderScreen:
    """An 8-bit copy of an encoder: a quarter of its bytes.

    Direction ``i`` is about ``scale[i] * steps[i]``. :func:`isogloss.kernels.screen_topk` tells by
    it which features need not be looked at for some rows.
    """

    steps: Tensor
    """Int8 ``[features, width]``, each in [-127, 127]; where oneDNN multiplies them, in its
    layout."""
    width: int
    """Numbers of a direction."""
    scale: Tensor
    """Float32 ``[features]``."""
    bias: Tensor
    """Float32 ``[features]``, that of the encoder."""
    missed: Tensor
    """Length of what rounding left out of each direction, float32 ``[features]``."""
    length: Tensor
    """Length of each rounded direction, float32 ``[features]``."""

    weight: Tensor | None
    """The encoder itself, float32 ``[features, width]``, by which entries that are left are looked
    at again; None: of another type, or its rows are not contiguous."""
    longest: float
    """Length of the longest rounded direction."""
    largest_bias: float
    """Largest size of a bias."""

    __repr__ = short_repr

    @property
    def nbytes(self) -> int:
        """Bytes held beside the encoder."""
        features = len(self.scale)
        return features * self.width + 3 * self.scale.nbytes
