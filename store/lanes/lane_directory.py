"""The directory of a lane: the names of its files, which lanes there are, and who writes one."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from isogloss.store.disk.filesystem import FileSystem, make_directories

LOG_NAME = "commit.log"
SEAL_NAME = "seal.json"
COLUMNS_NAME = "columns"
STEP_NAME = "step"
STEP_ENDS_NAME = "step_ends"
DOCUMENTS_NAME = "documents"
KNOWN_NAME = "known"
STATISTICS_NAME = "statistics"
MANIFEST_NAME = "manifest"
"""Beside ``lanes``: one entry for each lane, of the lane's name. A lane that has an entry and no
files was lost by something else than the store."""


def lane_names(files: FileSystem, directory: Path) -> Sequence[str]:
    """Return the names in ``lanes/`` that are lanes, in the order their rows are numbered."""
    return [name for name in files.names(directory) if not name.startswith(".")]


def enter_lane(files: FileSystem, recording: Path, name: str) -> None:
    """Name a lane in the manifest of its recording; durable when this returns.

    Called when the lane is durable, and before the first of its batches is acknowledged. So a lane
    that was acknowledged has an entry, and a lane that has an entry was on the disk.

    Args:
        files: the file system that the recording is on.
        recording: the recording's directory.
        name: the lane's name.

    Raises:
        OSError: the entry could not be made durable.
    """
    manifest = recording / MANIFEST_NAME
    if not files.is_remote and not files.exists(manifest):
        # an earlier release created the recording
        make_directories(files, manifest)
    with contextlib.suppress(FileExistsError):
        if files.is_remote:
            files.create_record(manifest / name, b"")
        else:
            files.close(files.create(manifest / name))
    files.sync_directory(manifest)


def strike_lanes(files: FileSystem, recording: Path, names: Sequence[str]) -> None:
    """Remove the entries of lanes whose files are about to be removed; durable when this returns.

    Args:
        files: the file system that the recording is on.
        recording: the recording's directory.
        names: names of the lanes; those without an entry are left out.
    """
    manifest = recording / MANIFEST_NAME
    there = set(files.names(manifest)) & set(names)
    for name in sorted(there):
        with contextlib.suppress(FileNotFoundError):
            files.remove(manifest / name)
    if there:
        files.sync_directory(manifest)


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
