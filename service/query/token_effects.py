"""The tokens that features promote and suppress, read once from a dictionary's file and kept."""

import threading
from collections.abc import Mapping
from pathlib import Path

from isogloss import dictionaries
from isogloss.dictionaries import TOKEN_EFFECTS_FILE, TokenEffects
from isogloss.service.query.last_used import LastUsed

_State = tuple[int, int, int]
"""Which file it is: inode, bytes, and time of the last write in nanoseconds."""

_KEPT_BYTES = 16 << 20
"""Of files whose effects are kept beside the newest; in memory they take about 4.5 times that."""


class KeptTokenEffects:
    """Effects of dictionaries whose files were read last. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept = LastUsed[Path, tuple[_State, Mapping[int, TokenEffects]]](_file_bytes)

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
            if directory in self._kept and self._kept[directory][0] != state:
                self._kept.drop(directory)
            if state is None:
                return {}
            if directory not in self._kept:
                # looked at before it is read: a file that comes in between is read again
                effects = dictionaries.read_token_effects(directory)
                self._kept.put(directory, (state, effects), most=_KEPT_BYTES)
            return self._kept[directory][1]


def _file_bytes(kept: tuple[_State, Mapping[int, TokenEffects]]) -> int:
    return kept[0][1]


def _state(directory: Path) -> _State | None:
    """Return which file of effects stands beside a dictionary; None: none that can be looked at."""
    try:
        found = (directory / TOKEN_EFFECTS_FILE).stat()
    except FileNotFoundError:
        return None
    except OSError:
        return (-1, 0, 0)  # reading it says what is wrong
    return (found.st_ino, found.st_size, found.st_mtime_ns)
