"""Reading an SQLite file on storage that takes no writes, such as a read-only mount."""

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path


def can_write(path: Path) -> bool:
    """Return whether this process may change a file and make others beside it, as SQLite does."""
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def open_sqlite_copy(path: Path) -> sqlite3.Connection:
    """Copy an SQLite file into memory and open the copy; nothing is written beside the file.

    SQLite itself reads a file with a write-ahead log only where it may make a file of shared
    memory. Where it may not, file and log are first copied to the temporary directory, as they are.

    Args:
        path: the file.

    Returns:
        A connection to the file as it is now, which threads may share. Later changes of the file do
        not show; the copy can be changed, which changes nothing on the disk.

    Raises:
        sqlite3.Error: the file is not there, or is no sound SQLite file.
        OSError: it cannot be read.
    """
    try:
        return _in_memory(f"{path.absolute().as_uri()}?mode=ro")
    except sqlite3.OperationalError:
        path.stat()  # says in the system's words that the file is not there
    with tempfile.TemporaryDirectory(prefix="isogloss-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            shutil.copyfile(log, copy.with_name(log.name))
        return _in_memory(copy.absolute().as_uri())


def _in_memory(uri: str) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        source = sqlite3.connect(uri, uri=True)
        try:
            source.backup(memory)
        finally:
            source.close()
    except BaseException:
        memory.close()
        raise
    return memory
