"""Settings of matching two dictionaries, with conversion to and from plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from isogloss.errors import InvalidInput
from isogloss.universality.nulls.strata import KEYS

_MOST = {"min_fires": 2**53, "draws": 10_000, "resamples": 1_000_000}


@dataclass(frozen=True, kw_only=True)
class MatchSettings:
    """Settings of :func:`match`."""

    min_fires: int = 20
    """Firings on the choose half below which a feature is left out."""
    min_r: float = 0.1
    """Pairs below this r on the choose half are dropped, observed and under the nulls alike."""
    replicated_r: float = 0.3
    """r on the report half that a pair needs at least to count as replicated."""
    null_quantile: float = 0.95
    """A replicated pair also reaches this quantile of the best r that shuffled rows give."""
    keys: tuple[str, ...] = ("none", "token", "position")
    """The nulls to draw: each shuffles rows among those of equal token, position or document, or
    among all (``none``, which must be there).
    """
    draws: int = 1
    """Shuffles of each null."""
    resamples: int = 200
    """Bootstrap resamples of the sources of text."""
    confidence: float = 0.95
    """Share of the resamples that an interval holds."""
    seed: int = 0
    """Seed of the nulls and of the bootstrap."""

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("min_fires", "draws", "resamples")}
        for name, count in counts.items():
            if not 1 <= count <= _MOST[name]:
                raise InvalidInput(f"{name} {count} must be at least 1, at most {_MOST[name]}")
        for name in ("min_r", "replicated_r"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput(f"{name} {getattr(self, name)} must lie in [0, 1]")
        for name in ("null_quantile", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise InvalidInput(f"{name} {getattr(self, name)} must lie in (0, 1)")
        unknown = [key for key in self.keys if key not in KEYS]
        if unknown or "none" not in self.keys or len(set(self.keys)) != len(self.keys):
            raise InvalidInput(
                f"keys {self.keys} must be different, among {', '.join(KEYS)}, and include none"
            )
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
        unknown = sorted(set(values) - set(kinds))
        if unknown:
            raise InvalidInput(
                f"unknown match setting {', '.join(unknown)}; known: {', '.join(kinds)}"
            )
        given = {name: _as_kind(name, value, kinds[name]) for name, value in values.items()}
        # Each value was brought to the type of its field's default.
        return cls(**given)  # pyright: ignore[reportArgumentType]


def _as_kind(name: str, value: object, kind: type) -> int | float | tuple[str, ...]:
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(str(key) for key in value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    # JSON and protobuf structs know one kind of number: 20.0 is 20
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if kind is int and whole and not isinstance(value, bool):
        return int(value)  # pyright: ignore[reportArgumentType]  # `whole` says that it is a number
    raise InvalidInput(f"{name} {value!r} must be {'a list' if kind is tuple else kind.__name__}")
