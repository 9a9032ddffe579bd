"""The directory of a lane: the names of its files, which lanes there are, and who writes one."""

from collections.abc import Sequence
from pathlib import Path

from isogloss.store.disk.filesystem import FileSystem

LOG_NAME = "commit.log"
SEAL_NAME = "seal.json"
COLUMNS_NAME = "columns"
STEP_NAME = "step"
STEP_ENDS_NAME = "step_ends"
DOCUMENTS_NAME = "documents"
KNOWN_NAME = "known"
STATISTICS_NAME = "statistics"


def lane_names(files: FileSystem, directory: Path) -> Sequence[str]:
    """Return the names in ``lanes/`` that are lanes, in the order their rows are numbered."""
    return [name for name in files.names(directory) if not name.startswith(".")]


def has_writer(files: FileSystem, directory: Path) -> bool:
    """Whether a process holds the lock of a lane's log: its writer takes it before all else."""
    try:
        log = files.open(directory / LOG_NAME, write=True)
    except FileNotFoundError:
        return False
    try:
        return files.is_locked(log)
    finally:
        files.close(log)
