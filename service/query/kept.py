"""What questions read from a store and keep while it is used: probes, atlases, codes, matches."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from isogloss.service.query.last_used import LastUsed

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
        codes = LastUsed[str, object](lambda value: cast("ProbedDictionary", value).resident_bytes)
        self._kinds: dict[str, LastUsed[str, object]] = {"codes": codes}

    def keep(self, key: tuple[str, str], make: Callable[[], _ValueT]) -> _ValueT:
        """Return what is kept under a key, or what ``make`` makes.

        Args:
            key: kind and name; the kind fixes the type of the value.
            make: reads it.
        """
        kind, name = key
        with self._lock:
            kept = self._kinds.setdefault(kind, LastUsed())
            if name not in kept:
                most = _KEPT_BYTES if kind == "codes" else _KEPT_SMALL.get(kind, _KEPT)
                kept.put(name, make(), most=most)
            return cast("_ValueT", kept[name])

    def forget_older(self, atlas: "Atlas") -> None:
        """Forget atlases whose place this one took: their files take room until they are."""
        with self._lock:
            kept = self._kinds.setdefault("atlas", LastUsed())
            for name, found in kept.items():
                if found is not atlas and cast("Atlas", found).probe_uid == atlas.probe_uid:
                    kept.drop(name)
