"""Arguments of a step of the optimiser whose matrix gradients are sums over entries."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from isogloss.kernels.values.codes import Codes
from isogloss.short_repr import short_repr


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EntryGradients:
    """Gradients of a dictionary: of the matrices by entry, of everything else whole.

    The gradient of a feature's decoder row is ``sum value * downhill[row] + radial * d |w| / d w``,
    that of its encoder row ``sum slope * source[row]``, both over the feature's entries.
    """

    codes: Codes
    """The entries, with their values; an entry of value 0 may still have a slope."""
    slopes: Tensor
    """Gradient to what the feature reads, of every entry, float32."""
    source: Tensor
    """Rows that were read, ``[rows, width]``."""
    downhill: Tensor
    """Gradient to the reconstruction, ``[rows, target_width]``."""
    vectors: Mapping[str, Tensor]
    """Gradients of the other parameters by name, but for ``decoder_bias``."""
    decoder_bias: Tensor
    """Gradient of the decoder bias where it is added, ``[target_width]``."""
    through: Tensor | None = None
    """Gradient to what every feature reads, summed over the rows, ``[features]``: ``through @
    encoder`` is subtracted from the decoder bias's, which is also subtracted before encoding.
    None: it is not."""
    radial: Tensor | None = None
    """Gradient to the norm of each decoder row, ``[features]``; None: 0."""
    parts: tuple[range, ...] = ()
    """Columns of the target whose norms are summed to that norm; empty: all together."""
    more_features: Tensor | None = None
    """Features whose encoder row has a gradient beside that of the entries, int64; None: none."""
    more_rows: Tensor | None = None
    """These gradients, ``[len(more_features), width]``."""

    __repr__ = short_repr

    def moved(self) -> Tensor:
        """Return which features have a gradient with any term, bool ``[features]``."""
        codes = self.codes
        counts = (codes.values != 0) | (self.slopes.view_as(codes.values) != 0)
        found = torch.zeros(codes.features, dtype=torch.bool, device=counts.device)
        found[codes.indices[counts].long()] = True
        if self.more_features is not None:
            found[self.more_features] = True
        for vector in self.vectors.values():
            found |= vector != 0
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class DescentSettings:
    """Settings of such a step: Adam's, and what is kept of decoder and gradient."""

    learning_rate: float
    """Step size of Adam."""
    beta1: float = 0.9
    """Decay of Adam's first moment."""
    beta2: float = 0.999
    """Decay of Adam's second moment."""
    epsilon: float = 1e-8
    """Added to the root of Adam's second moment."""
    unit_norm: bool = True
    """Keep decoder rows at norm 1, and project their gradients."""
    clip_norm: float | None = None
    """Bound on the Euclidean norm of all gradients together, after the decoder's projection."""
    lazy: bool = False
    """Leave a feature whose gradient has no term in this step as it is, with its moments."""


@contextmanager
def moving(tensors: Sequence[Tensor], moved: Tensor | None) -> Generator[None]:
    """Change tensors inside, and have their other rows back behind it.

    Args:
        tensors: a row each feature.
        moved: bool ``[features]``, the rows whose change stays; None: all.
    """
    still = None if moved is None else ~moved
    before = [] if still is None else [one[still] for one in tensors]
    yield
    for one, old in zip(tensors, before, strict=False):
        one[still] = old
