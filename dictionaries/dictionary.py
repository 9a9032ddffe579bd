"""The seam every kind of dictionary implements."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Float32
from torch import Tensor

from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.kernels import Codes


@runtime_checkable
class Dictionary(Protocol):
    """Features learned from activations.

    ``isogloss.dictionaries.testing.DictionaryContract`` states in tests what holds for all kinds.
    """

    @property
    def kind(self) -> str:
        """Name of its kind: activation, loss and state."""
        ...

    @property
    def width(self) -> int:
        """Columns of the rows it reads."""
        ...

    @property
    def features(self) -> int:
        """Number of features."""
        ...

    @property
    def decoder(self) -> Float32[Tensor, "features target_width"]:
        """For each feature the direction that it adds to a row, ``[features, target_width]``; in an
        autoencoder the width is that of the rows read."""
        ...

    @property
    def provenance(self) -> DictionaryProvenance:
        """How the dictionary was made: recording, settings, initial weights."""
        ...

    def encode(self, rows: Float[Tensor, "rows width"]) -> Codes:
        """Return the features active on raw (not normalised) activations ``[rows, width]``.

        Raises:
            ShapeError: ``rows`` is not two-dimensional floating point of this width.
        """
        ...

    def decode(self, codes: Codes) -> Float32[Tensor, "rows target_width"]:
        """Reconstruct raw activations, float32 ``[rows, target_width]``.

        Raises:
            ShapeError: ``codes`` are of another number of features.
        """
        ...
