"""A bounded memory: what was longest unused is forgotten first."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

_KeyT = TypeVar("_KeyT")
_ValueT = TypeVar("_ValueT")


class LastUsed(Generic[_KeyT, _ValueT]):
    """The values that were used last, by key. Who shares one between threads holds a lock."""

    def __init__(self, size: Callable[[_ValueT], int] = lambda value: 1) -> None:
        """Keep nothing yet.

        Args:
            size: what a value takes; 1 by default, so that values are counted.
        """
        self._size = size
        self._kept: OrderedDict[_KeyT, _ValueT] = OrderedDict()

    def __contains__(self, key: _KeyT) -> bool:
        return key in self._kept

    def __getitem__(self, key: _KeyT) -> _ValueT:
        """Return what is kept under a key, which is used by that."""
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, key: _KeyT, value: _ValueT, *, most: int) -> None:
        """Keep a value, and forget what was longest unused while all take more than they may.

        Args:
            key: under which; what was kept there is forgotten.
            value: stays, however much it takes.
            most: what all values may take together.
        """
        self._kept[key] = value
        self._kept.move_to_end(key)
        taken = sum(map(self._size, self._kept.values()))
        while taken > most and len(self._kept) > 1:
            taken -= self._size(self._kept.popitem(last=False)[1])

    def drop(self, key: _KeyT) -> None:
        """Forget a key, if it is kept."""
        self._kept.pop(key, None)

    def items(self) -> list[tuple[_KeyT, _ValueT]]:
        """Return keys and values, what was longest unused first; they are not used by that."""
        return list(self._kept.items())
