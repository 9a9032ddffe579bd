"""Typed reading of report data: JSON that was saved with a match."""

from collections.abc import Mapping, Sequence
from typing import cast

from isogloss.errors import CorruptData


class Node:
    """One JSON object, read field by field; a missing or wrong field says where it is."""

    def __init__(self, value: object, where: str = "report") -> None:
        if not isinstance(value, Mapping):
            raise CorruptData(
                f"{where} is {_kind(value)}, wanted an object: match the dictionaries again"
            )
        self._fields = cast("Mapping[str, object]", value)
        self._where = where

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields, in order."""
        return tuple(self._fields)

    @property
    def plain_fields(self) -> dict[str, object]:
        """The fields as they stand."""
        return dict(self._fields)

    def node(self, name: str) -> "Node":
        """Return an object."""
        return Node(self._fields.get(name), f"{self._where}.{name}")

    def nodes(self, name: str) -> tuple["Node", ...]:
        """Return a list of objects."""
        return tuple(
            Node(item, f"{self._where}.{name}[{index}]")
            for index, item in enumerate(self._list(name))
        )

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text; ``default``, when given, if the field is missing."""
        value = self._fields.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self._wrong(name, value, "text")
        return value

    def number(self, name: str) -> float:
        """Return a number."""
        value = self.maybe(name)
        if value is None:
            raise self._wrong(name, None, "a number")
        return value

    def plain(self, name: str) -> str:
        """Return any value as text for a reader."""
        value = self._fields.get(name)
        if isinstance(value, list | tuple):
            return " ".join(str(item) for item in cast("Sequence[object]", value))
        return "automatic" if value is None else str(value)

    def count(self, name: str) -> int:
        """Return a whole number."""
        return round(self.number(name))

    def maybe(self, name: str) -> float | None:
        """Return a number, or None where it is unknown."""
        return self._number(name, self._fields.get(name))

    def flag(self, name: str) -> bool:
        """Return a truth value (0 and 1 are read as one)."""
        return bool(self.number(name))

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a list of numbers."""
        return tuple(0.0 if value is None else value for value in self.maybes(name))

    def maybes(self, name: str) -> tuple[float | None, ...]:
        """Return a list of numbers, with None where one is unknown."""
        return tuple(self._number(name, item) for item in self._list(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(str(item) for item in self._list(name))

    def runs(self, name: str) -> tuple[tuple[str, float], ...]:
        """Return a list of ``[text, number]``."""
        found: list[tuple[str, float]] = []
        for item in self._list(name):
            pair = cast("Sequence[object]", item) if isinstance(item, list | tuple) else ()
            if len(pair) != 2 or not isinstance(pair[0], str):
                raise self._wrong(name, item, "[text, number]")
            found.append((pair[0], self._number(name, pair[1]) or 0.0))
        return tuple(found)

    def _list(self, name: str) -> Sequence[object]:
        value = self._fields.get(name)
        if not isinstance(value, list | tuple):
            raise self._wrong(name, value, "a list")
        return cast("Sequence[object]", value)

    def _number(self, name: str, value: object) -> float | None:
        if value is None:
            return None
        if not isinstance(value, int | float):
            raise self._wrong(name, value, "a number")
        return float(value)

    def _wrong(self, name: str, value: object, wanted: str) -> CorruptData:
        return CorruptData(
            f"{self._where}.{name} is {_kind(value)}, wanted {wanted}: match the dictionaries again"
        )


def _kind(value: object) -> str:
    return "missing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
