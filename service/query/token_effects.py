"""The tokens that features promote and suppress, read once from a dictionary's file and kept."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from isogloss import dictionaries
from isogloss.dictionaries import TOKEN_EFFECTS_FILE, TokenEffects

_State = tuple[int, int, int]
"""Which file it is: inode, bytes, and time of the last write in nanoseconds."""

_KEPT_BYTES = 16 << 20
"""Of files whose effects are kept beside the newest; in memory they take about 4.5 times that."""


class KeptTokenEffects:
    """Effects of dictionaries whose files were read last. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, tuple[_State, Mapping[int, TokenEffects]]] = OrderedDict()

    def of(self, directory: Path) -> Mapping[int, TokenEffects]:
        """Return the effects beside a dictionary, by feature; none: an empty mapping.

        A file is read again once another one stands in its place, and not before.

        Args:
            directory: of the dictionary.

        Raises:
            CorruptData: the file holds no such effects, or cannot be read.
        """
        with self._lock:
            state = _state(directory)
            if state is None:
                self._kept.pop(directory, None)
                return {}
            kept = self._kept.pop(directory, None)
            if kept is None or kept[0] != state:
                # looked at before it is read: a file that comes in between is read again
                kept = (state, dictionaries.read_token_effects(directory))
            self._kept[directory] = kept
            self._forget()
            return kept[1]

    def _forget(self) -> None:
        """Forget what was longest unused while more is kept than may be."""
        taken = sum(state[1] for state, _ in self._kept.values())
        while taken > _KEPT_BYTES and len(self._kept) > 1:
            _, (state, _) = self._kept.popitem(last=False)
            taken -= state[1]


def _state(directory: Path) -> _State | None:
    """Return which file of effects stands beside a dictionary; None: none that can be looked at."""
    try:
        found = (directory / TOKEN_EFFECTS_FILE).stat()
    except FileNotFoundError:
        return None
    except OSError:
        return (-1, 0, 0)  # reading it says what is wrong
    return (found.st_ino, found.st_size, found.st_mtime_ns)
