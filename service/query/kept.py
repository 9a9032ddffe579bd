"""What questions read from a store and keep while it is used: probes, atlases, codes, matches."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from isogloss.universality import Atlas, ProbedDictionary

_KEPT = 16
"""Probes, atlases, matches and readers of contexts that are kept at most, of each kind."""

_KEPT_SMALL = {"peaks": 256}
"""How many are kept of kinds that take little: the highest activations of a dictionary."""

_KEPT_BYTES = 2 << 30
"""Memory that codes may take beside the newest: those of 42 dictionaries of 24,576 features on
65,536 segments, k = 24, take half of it."""

_ValueT = TypeVar("_ValueT")


class KeptReads:
    """Values by kind and name; of each kind those stay that were used last. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: OrderedDict[tuple[str, str], object] = OrderedDict()

    def keep(self, key: tuple[str, str], make: Callable[[], _ValueT]) -> _ValueT:
        """Return what is kept under a key, or what ``make`` makes.

        Args:
            key: kind and name; the kind fixes the type of the value.
            make: reads it.
        """
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
                self._forget(key[0])
            self._kept.move_to_end(key)
            return cast("_ValueT", self._kept[key])

    def _forget(self, kind: str) -> None:
        """Forget what was longest unused of a kind of which too much is kept."""
        names = [key for key in self._kept if key[0] == kind]
        if kind != "codes":
            for key in names[: -_KEPT_SMALL.get(kind, _KEPT)]:
                del self._kept[key]
            return
        taken = [cast("ProbedDictionary", self._kept[key]).resident_bytes for key in names]
        for at, key in enumerate(names[:-1]):
            if sum(taken[at:]) > _KEPT_BYTES:
                del self._kept[key]

    def forget_older(self, atlas: "Atlas") -> None:
        """Forget atlases whose place this one took: their files take room until they are."""
        with self._lock:
            for key, kept in list(self._kept.items()):
                is_other = key[0] == "atlas" and kept is not atlas
                if is_other and cast("Atlas", kept).probe_uid == atlas.probe_uid:
                    del self._kept[key]
