"""Memory of batches, used again once nobody looks at them any more.

Large arrays come fresh from the system, which clears every page: with a window of batches that cost
a third of the time of reading them.
"""

import numpy as np
from numpy.typing import NDArray


class _Idle:
    """Memory that nobody looks at, by its length."""

    def __init__(self) -> None:
        self.most_bytes = 0
        self._bytes = 0
        self._found: dict[int, list[NDArray[np.uint8]]] = {}

    def take(self, length: int) -> NDArray[np.uint8]:
        try:
            memory = self._found[length].pop()
        except LookupError:
            return np.empty(length, np.uint8)
        self._bytes -= length
        return memory

    def give_back(self, memory: NDArray[np.uint8]) -> None:
        if self._bytes + len(memory) <= self.most_bytes:
            self._bytes += len(memory)
            self._found.setdefault(len(memory), []).append(memory)


class _Lease:
    """What an array and its views hold on to; gives the memory back when the last of them goes."""

    def __init__(self, idle: _Idle, memory: NDArray[np.uint8]) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._idle = idle
        self._memory = memory

    def __del__(self) -> None:
        self._idle.give_back(self._memory)


class RecycledMemory:
    """Gives out arrays, from several threads; a race between two only makes one of them fresh."""

    def __init__(self) -> None:
        self._idle = _Idle()

    def keep(self, most_bytes: int) -> None:
        """Hold on to so much that nobody uses, or to more where that was asked for before."""
        self._idle.most_bytes = max(self._idle.most_bytes, most_bytes)

    def empty(self, count: int, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
        """Return an array ``[count]`` of any content, like ``np.empty``."""
        memory = self._idle.take(count * dtype.itemsize)
        return np.asarray(_Lease(self._idle, memory)).view(dtype)
