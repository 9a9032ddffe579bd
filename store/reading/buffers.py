"""Memory for batches that is used again once no array of it is left.

The system clears every page of a large new array, which took a third of the time of reading a
window of batches.
"""

import numpy as np
from numpy.typing import NDArray


class _Lease:
    """Held by an array and its views; returns their memory when the last of them is garbage."""

    def __init__(self, owner: "RecycledMemory", memory: NDArray[np.uint8]) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._owner = owner
        self._memory = memory

    def __del__(self) -> None:
        self._owner.give_back(self._memory)


class RecycledMemory:
    """Gives out arrays and keeps their memory for the next; safe from several threads.

    When two threads ask at once, one of them may get new memory although some was free.
    """

    def __init__(self) -> None:
        self._most_bytes = 0
        self._idle: dict[int, list[NDArray[np.uint8]]] = {}

    def keep(self, most_bytes: int) -> None:
        """Keep up to ``most_bytes`` of memory that is not in use; a larger earlier limit stays."""
        self._most_bytes = max(self._most_bytes, most_bytes)

    def empty(self, count: int, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
        """Return an array ``[count]`` with any content, as ``np.empty`` does."""
        length = count * dtype.itemsize
        try:
            memory = self._idle[length].pop()
        except LookupError:
            memory = np.empty(length, np.uint8)
        return np.asarray(_Lease(self, memory)).view(dtype)

    def give_back(self, memory: NDArray[np.uint8]) -> None:
        """Keep memory that is no longer in use, or drop it where the limit is reached."""
        held = sum(length * len(found) for length, found in list(self._idle.items()))
        if held + len(memory) <= self._most_bytes:
            self._idle.setdefault(len(memory), []).append(memory)
