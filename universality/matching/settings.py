"""Settings of matching two dictionaries, with conversion to and from plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr
from isogloss.universality.nulls.strata import KEYS

_MOST = {"min_fires": 2**53, "draws": 10_000, "max_draws": 10_000}

MOST_MEMBERS = 4
"""Largest subset of features that can be asked for: 162 subsets a feature."""

SURFACES = ("exact", "folded")

_GONE = {
    "replicated_r": "replicates_low, which bounds the lower end of the interval",
    "null_quantile": "nothing: a pair must be mutual best again on the report half",
    "resamples": "nothing: intervals need no resamples",
}
"""Settings of earlier versions, and what took their place."""


@dataclass(frozen=True, kw_only=True)
class MatchSettings:
    """Settings of :func:`match`."""

    min_fires: int = 20
    """Firings on the choose half below which a feature is left out."""
    min_r: float = 0.1
    """Pairs below this r on the choose half are dropped, observed and under the nulls alike."""
    replicates_low: float = 0.1
    """What the lower end of a pair's interval on compressed codes must exceed to replicate."""
    surface: str = "exact"
    """What is one token on a grid of words: ``exact`` parts "The" from "the", ``folded`` does not.
    """
    keys: tuple[str, ...] = ("none", "token", "position")
    """The nulls to draw: each exchanges rows among those of equal token, position, document or
    token and position (``token_position``), or among all (``none``, which must be there).
    """
    draws: int = 3
    """Draws of each null at least; more until the number of pairs is known to 2 % or 1 pair."""
    max_draws: int = 100
    """Draws of each null at most."""
    confidence: float = 0.95
    """Of the intervals of r."""
    seed: int = 0
    """Seed of the nulls."""
    one_to_one: bool = False
    """Also assign features one to one, whether mutual or not, by r and by decoder cosine."""
    subsets: int = 0
    """Most features of one dictionary that together may stand for one of the other; 0: not asked.
    """

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                found = getattr(self, name)
                raise InvalidInput(f"{name} {found} must be at least 1, at most {most}")
        if self.draws > self.max_draws:
            raise InvalidInput(f"draws {self.draws} must be at most max_draws {self.max_draws}")
        for name in ("min_r", "replicates_low"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput(f"{name} {getattr(self, name)} must lie in [0, 1]")
        if not 0 < self.confidence < 1:
            raise InvalidInput(f"confidence {self.confidence} must lie in (0, 1)")
        if self.surface not in SURFACES:
            raise InvalidInput(f"surface {self.surface!r} must be one of {', '.join(SURFACES)}")
        unknown = [key for key in self.keys if key not in KEYS]
        if unknown or "none" not in self.keys or len(set(self.keys)) != len(self.keys):
            raise InvalidInput(
                f"keys {self.keys} must be different, among {', '.join(KEYS)}, and include none"
            )
        if not 0 <= self.subsets <= MOST_MEMBERS:
            raise InvalidInput(f"subsets {self.subsets} must be at most {MOST_MEMBERS}, 0 for none")
        if not 0 <= self.seed < 2**63:
            raise InvalidInput(f"seed {self.seed} must be in [0, 2**63)")

    def to_dict(self) -> dict[str, object]:
        """Return the settings as JSON values."""
        return {**asdict(self), "keys": list(self.keys)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "MatchSettings":
        """Rebuild from ``to_dict``; what is left out takes its default.

        Args:
            values: settings by name.

        Returns:
            The settings, checked.

        Raises:
            InvalidInput: an unknown name, a value of another type or out of range.
        """
        kinds = {field.name: type(field.default) for field in fields(cls)}
        for name in sorted(set(values) & set(_GONE)):
            raise InvalidInput(f"match setting {name} is gone; in its place is {_GONE[name]}")
        unknown = sorted(set(values) - set(kinds))
        if unknown:
            raise InvalidInput(
                f"unknown match setting {', '.join(unknown)}; known: {', '.join(kinds)}"
            )
        given = {name: _as_kind(name, value, kinds[name]) for name, value in values.items()}
        # Each value was brought to the type of its field's default.
        return cls(**given)  # pyright: ignore[reportArgumentType]


def _as_kind(name: str, value: object, kind: type) -> int | float | str | tuple[str, ...]:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(str(key) for key in value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    # JSON and protobuf structs know one kind of number: 20.0 is 20
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if kind is int and whole and not isinstance(value, bool):
        return int(value)  # pyright: ignore[reportArgumentType]  # `whole` says that it is a number
    raise InvalidInput(f"{name} {value!r} must be {'a list' if kind is tuple else kind.__name__}")
