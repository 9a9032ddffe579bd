"""Memory of batches, used again once nobody looks at them any more.

Large arrays come fresh from the system, which clears every page: with a window of batches that cost
a third of the time of reading them.
"""

import numpy as np
from numpy.typing import NDArray


class _Lease:
    """What an array and its views hold on to; gives the memory back when the last of them goes."""

    def __init__(self, owner: "RecycledMemory", memory: NDArray[np.uint8]) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._owner = owner
        self._memory = memory

    def __del__(self) -> None:
        self._owner.give_back(self._memory)


class RecycledMemory:
    """Gives out arrays, from several threads; a race between two only makes one of them fresh."""

    def __init__(self) -> None:
        self._most_bytes = 0
        self._idle: dict[int, list[NDArray[np.uint8]]] = {}

    def keep(self, most_bytes: int) -> None:
        """Hold on to so much that nobody uses, or to more where that was asked for before."""
        self._most_bytes = max(self._most_bytes, most_bytes)

    def empty(self, count: int, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
        """Return an array ``[count]`` of any content, like ``np.empty``."""
        length = count * dtype.itemsize
        try:
            memory = self._idle[length].pop()
        except LookupError:
            memory = np.empty(length, np.uint8)
        return np.asarray(_Lease(self, memory)).view(dtype)

    def give_back(self, memory: NDArray[np.uint8]) -> None:
        """Keep memory that nobody looks at, if there is room for it."""
        held = sum(length * len(found) for length, found in list(self._idle.items()))
        if held + len(memory) <= self._most_bytes:
            self._idle.setdefault(len(memory), []).append(memory)
