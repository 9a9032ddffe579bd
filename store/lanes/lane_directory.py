"""The directory of a lane: the names of its files, which lanes there are, and who writes one."""

from collections.abc import Sequence
from pathlib import Path

from isogloss.store.disk.filesystem import FileSystem

LOG_NAME = "commit.log"
SEAL_NAME = "seal.json"
COLUMNS_NAME = "columns"
DOCUMENTS_NAME = "documents"
STATISTICS_NAME = "statistics"


def lane_names(files: FileSystem, directory: Path) -> Sequence[str]:
    """Return the names of the lanes below ``lanes/``, in the order their rows are numbered."""
    return [name for name in files.names(directory) if not name.startswith(".")]


def has_writer(files: FileSystem, directory: Path) -> bool:
    """Whether a writer holds the log of a lane, which it locks before anything else."""
    try:
        log = files.open(directory / LOG_NAME, write=True)
    except FileNotFoundError:
        return False
    try:
        return files.is_locked(log)
    finally:
        files.close(log)
