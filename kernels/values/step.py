"""Arguments and results of a training step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.kernels.arguments import checks
from isogloss.short_repr import short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Parameters of a dictionary, or anything of their shapes; float32, contiguous."""

    encoder: Tensor
    """Directions to read, ``[features, width]``."""
    encoder_bias: Tensor
    """``[features]``."""
    decoder: Tensor
    """Directions to write, ``[features, target_width]``."""
    decoder_bias: Tensor
    """``[target_width]``; added after decoding, and subtracted before encoding by a dictionary that
    reconstructs what it reads."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        checks.matrix("encoder", self.encoder)
        features = self.encoder.shape[0]
        checks.vector("encoder_bias", self.encoder_bias, features)
        checks.matrix("decoder", self.decoder, rows=features)
        checks.vector("decoder_bias", self.decoder_bias, self.decoder.shape[1])
        for name, tensor in self.named().items():
            checks.exactly(name, tensor, torch.float32)
            checks.contiguous(**{name: tensor})
        checks.one_device(**self.named())

    @property
    def features(self) -> int:
        """Number of features."""
        return self.encoder.shape[0]

    @property
    def width(self) -> int:
        """Width of a row that is read."""
        return self.encoder.shape[1]

    @property
    def target_width(self) -> int:
        """Width of a row that is reconstructed."""
        return self.decoder.shape[1]

    def named(self) -> dict[str, Tensor]:
        """The tensors by the names of the fields."""
        return {
            "encoder": self.encoder,
            "encoder_bias": self.encoder_bias,
            "decoder": self.decoder,
            "decoder_bias": self.decoder_bias,
        }

    def clone(self) -> "Weights":
        """A copy that shares no memory."""
        return Weights(**{name: tensor.detach().clone() for name, tensor in self.named().items()})


class WiredRows(NamedTuple):
    """The rows of a step, float32."""

    rows: Tensor
    """Rows to read, ``[rows, width]``."""
    target: Tensor | None
    """Rows to reconstruct, ``[rows, target_width]``; None: those that are read."""
    columns: Tensor | None
    """Int64 ``[features, 2]``: first column of each feature and the one behind its last; None:
    every feature has all columns."""


def inside_columns(columns: Tensor, width: int) -> Tensor:
    """Return bool ``[features, width]``: which columns each feature reads and writes."""
    every = torch.arange(width, device=columns.device)
    return (every >= columns[:, :1]) & (every < columns[:, 1:])


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamMoments:
    """Adam's running moments of the gradients."""

    first: Weights
    """Running mean."""
    second: Weights
    """Running mean of the squares."""

    @classmethod
    def zeros_like(cls, weights: Weights) -> "AdamMoments":
        """AdamMoments of no step yet."""
        first, second = (
            Weights(**{name: torch.zeros_like(one) for name, one in weights.named().items()})
            for _ in range(2)
        )
        return cls(first=first, second=second)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSettings:
    """Settings of one training step."""

    k: int
    """Features kept a row; on average, where the choice is over the batch."""
    learning_rate: float
    """Step size of Adam."""
    variance: float
    """Total variance of the data; the squared error is divided by it."""
    beta1: float = 0.9
    """Decay of Adam's first moment."""
    beta2: float = 0.999
    """Decay of Adam's second moment."""
    epsilon: float = 1e-8
    """Added to the root of Adam's second moment."""
    unit_norm: bool = True
    """Keep decoder rows at norm 1, and project their gradients. False: norms are free, and entries
    are chosen by their value times the norm of their decoder row."""
    aux_k: int = 0
    """Dead features that AuxK may use on a row; 0 for no AuxK."""
    aux_coefficient: float = 1 / 32
    """Weight of AuxK."""
    clip_norm: float | None = None
    """Bound on the Euclidean norm of all gradients together, after the decoder's projection: a
    longer gradient is shortened to it. None for no bound."""
    prefixes: tuple[int, ...] = ()
    """Numbers of features, rising, the last of them all: the squared error is the mean over
    reconstructions by the first so many features (Matryoshka). Empty: by all features alone."""
    lazy: bool = False
    """Leave a feature whose gradient has no term in this step as it is, with its moments (as
    torch's SparseAdam does). False: exact Adam, which moves every feature at every step."""
    threshold_hint: float = 0.0
    """A value that the smallest entry of a choice over the batch is thought to reach, such as nine
    tenths of the last step's; 0: none. It changes the time that the choice takes on the CPU, never
    the choice."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        checks.whole(k=self.k, aux_k=self.aux_k)
        if self.k < 1:
            raise InvalidInput(f"k is {self.k}; at least 1 is wanted")
        if self.aux_k < 0:
            raise InvalidInput(f"aux_k is {self.aux_k}; 0 (off) or more is wanted")
        if not (math.isfinite(self.variance) and self.variance > 0):
            raise InvalidInput(
                f"variance is {self.variance}; a positive number is wanted (are all rows equal?)"
            )
        if self.clip_norm is not None and not (
            math.isfinite(self.clip_norm) and self.clip_norm > 0
        ):
            raise InvalidInput(
                f"clip_norm is {self.clip_norm}; a positive number or None is wanted"
            )
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= beta < 1:
                raise InvalidInput(f"{name} is {beta}; it must be in [0, 1)")
        for name, value in (
            ("learning_rate", self.learning_rate),
            ("epsilon", self.epsilon),
            ("aux_coefficient", self.aux_coefficient),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInput(f"{name} is {value}; a finite number >= 0 is wanted")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """Losses and firings of one training step, measured before its update."""

    squared_error: float
    """Mean over rows of the squared norm of the residual."""
    loss: float
    """What the step descends; for ``train_step_topk`` without prefixes it is ``squared_error /
    variance + aux_coefficient * aux_loss``."""
    aux_loss: float
    """AuxK times its scale ``min(dead features / aux_k, 1)``; 0 when it was off."""
    fired: Tensor
    """int32 ``[features]``: rows on which each feature was above 0."""
    threshold: float | None = None
    """Smallest value that a choice over the batch kept, 0 where nothing was positive; None where
    there was no such choice."""
    parts: Mapping[str, float] = field(default_factory=dict[str, float])
    """Further terms of the loss by name, as they enter it, weights included."""
    residual: Tensor | None = None
    """Reconstruction by all features less target, ``[rows, target_width]`` float32; the next step
    with the same workspace may overwrite it."""
    mean_residual: Tensor | None = None
    """With prefixes, the mean of the residuals of all prefixes; None where it is ``residual``.
    Times ``2 / (rows * variance)`` it is the gradient of the loss to the reconstruction."""

    __repr__ = short_repr
