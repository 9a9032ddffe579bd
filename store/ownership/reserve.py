"""A reserve of disk space, given up where nothing else is free, so that deleting and opening work.

SQLite writes before it deletes, and an owner writes its name before it opens a store: on a disk
without a free byte neither would do, and nothing could ever be deleted. Rows never use the reserve.
"""

import contextlib
import os
from pathlib import Path

from isogloss.errors import IsoglossError
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.disk.permissions import open_new

RESERVE_NAME = ".reserve"
RESERVE_BYTES = 1 << 20
"""Enough for SQLite's log and shared memory and for the small files of an owner."""
_ROOM_BYTES = 64 << 20
"""So much must be free before the reserve is made: as much as rows leave free."""


def keep_reserve(root: Path) -> bool:
    """Make the reserve of a store where it is missing and there is room.

    Args:
        root: the store's directory.

    Returns:
        Whether there is one now. None is made where the disk refuses.
    """
    path = root / RESERVE_NAME
    try:
        if path.exists() or FileSystem().free_bytes(root) < _ROOM_BYTES:
            return path.exists()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = open_new(root.stat(), lambda mode: os.open(path, flags, mode))
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)
    except (OSError, IsoglossError):
        spend_reserve(root)  # half of one is none
        return False
    return True


def spend_reserve(root: Path) -> bool:
    """Give up the reserve of a store, and say whether there was one."""
    with contextlib.suppress(OSError):
        (root / RESERVE_NAME).unlink()
        return True
    return False
