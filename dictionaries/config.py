"""What a dictionary is trained with: a dozen settings, checked. Imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import cast

from isogloss.errors import InvalidInput

KINDS = ("topk",)
"""Kinds of dictionary this release trains."""

_FLOATS = frozenset({"epochs", "learning_rate", "decay", "holdout"})
_OPTIONAL = frozenset({"learning_rate", "dead_after_rows", "aux_k"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Settings of one training run.

    Not settings, because one choice served every run measured (README of this room): tied random
    initialisation, unit-norm decoder, exact Adam (0.9, 0.999, 1e-8), linear warm-up over 5 % of the
    steps (at most 1,000), input scaled to a mean squared row norm equal to its width.

    Raises:
        InvalidInput: a value is out of its range.
    """

    kind: str = "topk"
    """Architecture; ``topk`` (Gao et al. 2024, arXiv 2406.04093)."""
    features: int
    """Number of features."""
    k: int = 32
    """Features that may fire on one row."""
    batch_rows: int = 1024
    """Rows per optimiser step."""
    epochs: float = 4.0
    """Passes over the training rows; a fraction is part of a pass."""
    learning_rate: float | None = None
    """Peak of the schedule; None: see ``plan.default_learning_rate``."""
    decay: float = 0.3
    """Last share of the steps, over which the learning rate falls linearly to zero."""
    seed: int = 0
    """Of the initial weights and of the order of the rows."""
    holdout: float = 0.25
    """Documents whose split position lies below this are never trained on."""
    dead_after_rows: int | None = None
    """A feature silent for so many rows is dead, and trained by the auxiliary loss; None: one
    tenth of all rows of the run, at most 10 million."""
    aux_k: int | None = None
    """Dead features that the auxiliary loss uses per row; None: half the width; 0: no such loss."""
    checkpoint_every: int = 250
    """Steps between checkpoints. Does not change the result."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _refuse_wrong_type(field.name, getattr(self, field.name))
        if self.kind not in KINDS:
            raise InvalidInput(f"kind is {self.kind!r}; this release trains {', '.join(KINDS)}")
        for name in ("features", "k", "batch_rows", "checkpoint_every", "dead_after_rows"):
            value = cast("int | None", getattr(self, name))
            if value is not None and value < 1:
                raise InvalidInput(f"{name} is {value}; it must be at least 1")
        if self.k > self.features:
            raise InvalidInput(f"k is {self.k} but features is {self.features}; lower k")
        if not 0 < self.epochs < float("inf"):
            raise InvalidInput(f"epochs is {self.epochs}; it must be finite and more than 0")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise InvalidInput(f"learning_rate is {self.learning_rate}; wanted: in (0, 1), or None")
        for name, limit in (("decay", 1.0), ("holdout", 0.999)):
            share = cast("float", getattr(self, name))
            if not 0 <= share <= limit:
                raise InvalidInput(f"{name} is {share}; it must be in [0, {limit}]")
        if not 0 <= self.seed < 2**63:
            raise InvalidInput(f"seed is {self.seed}; it must be in [0, 2**63)")
        if self.aux_k is not None and self.aux_k < 0:
            raise InvalidInput(f"aux_k is {self.aux_k}; it must be 0 (off) or more")

    def to_dict(self) -> dict[str, object]:
        """Return every field as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, object]) -> "TrainConfig":
        """Build from JSON values; missing fields take their defaults.

        Raises:
            InvalidInput: an unknown key, a missing ``features``, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise InvalidInput(f"unknown settings {unknown}; a training run has {known}")
        if "features" not in settings:
            raise InvalidInput("features is missing; give the number of features to learn")
        values = {name: _as_number(name, value) for name, value in settings.items()}
        for name, value in values.items():  # before __init__, whose types a checker may enforce
            _refuse_wrong_type(name, value)
        return cls(**values)  # pyright: ignore[reportArgumentType]  # types were checked just above

    def differences(self, other: "TrainConfig") -> list[str]:
        """Name the fields, other than ``checkpoint_every``, in which two configs differ."""
        names = [field.name for field in fields(self) if field.name != "checkpoint_every"]
        return [name for name in names if getattr(self, name) != getattr(other, name)]


def _as_number(name: str, value: object) -> object:
    """Read JSON's one number type as the field's: 4 for 4.0 and 4.0 for 4."""
    if isinstance(value, bool):
        return value
    if name in _FLOATS and isinstance(value, int):
        return float(value)
    if name not in _FLOATS and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _refuse_wrong_type(name: str, value: object) -> None:
    if value is None and name in _OPTIONAL:
        return
    wanted = str if name == "kind" else float if name in _FLOATS else int
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise InvalidInput(f"{name} is {value!r}; it must be of type {wanted.__name__}")
