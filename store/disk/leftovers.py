"""Half-written directories that killed processes left beside their target, told from living ones.

Who writes one holds a lock on it for as long as it lives, so the next one that writes to the same
target knows which were left behind.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Generator
from pathlib import Path

from isogloss.store.disk.filesystem import FileSystem


@contextlib.contextmanager
def held(files: FileSystem, path: Path) -> Generator[None]:
    """Return a context manager that marks a directory as being written by this process.

    Args:
        files: the file system that it is on; nothing is held where its files are not the system's.
        path: the directory.

    Yields:
        Nothing.
    """
    if not files.can_map:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # no locks on this file system
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def sweep_partials(files: FileSystem, target: Path) -> int:
    """Remove what killed processes left of a directory that they were to make.

    Args:
        files: the file system; nothing is removed where its files are not the system's.
        target: the directory that was to be made.

    Returns:
        How many half-written directories were removed.
    """
    if not files.can_map:
        return 0
    pattern = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{8}\.partial")
    left = [name for name in files.names(target.parent) if pattern.fullmatch(name)]
    return sum(_remove_unheld(files, target.parent / name) for name in left)


def _remove_unheld(files: FileSystem, path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # of another user, or gone
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files.remove_tree(path)
    except OSError:  # it is being written, or belongs to someone else
        return False
    finally:
        os.close(descriptor)
    return True
