"""Retention: remove the rows of the oldest lanes; cursors and documents stay."""

from dataclasses import replace
from pathlib import Path

from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.formats.documents import write_known
from isogloss.store.lanes.files import LaneFiles
from isogloss.store.lanes.lane_directory import DOCUMENTS_NAME, KNOWN_NAME, SEAL_NAME
from isogloss.store.lanes.seal import Seal, write_seal
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.upkeep.derive import derive_columns

_KEPT = (SEAL_NAME, DOCUMENTS_NAME, KNOWN_NAME)


def retire_lane(files: FileSystem, directory: Path, spec: RecordingSpec, seal: Seal) -> Seal:
    """Remove the rows of a sealed lane for good.

    What stays: its documents, since rows of later lanes may be of them; which of them were recorded
    at which step, so that a run that begins again does not record them again; and its cursors, so
    that its producers go on where they were. All of it is durable before the seal says that the
    rows are gone, and the rows are removed after that. What a crash in between leaves,
    :func:`sweep_retired` removes.

    Args:
        files: the file system that the lane is on.
        directory: the lane's directory.
        spec: the recording's specification.
        seal: the lane's seal.

    Returns:
        The lane's new seal.
    """
    derive_columns(files, directory, spec, seal.rows)
    if not files.exists(directory / KNOWN_NAME):
        known = LaneFiles(files, directory, spec, seal.rows).known_documents()
        write_known(files, directory / KNOWN_NAME, known)
    retired = replace(seal, rows=0, reason="retired", damage="")
    write_seal(files, directory, retired)
    sweep_retired(files, directory)
    return retired


def sweep_retired(files: FileSystem, directory: Path) -> int:
    """Remove the files that a retired lane does not need; return how many names."""
    names = [name for name in files.names(directory) if name not in _KEPT]
    if names:
        files.sync_directory(directory)  # the seal's writer may have been killed before it did
    for name in names:
        if files.is_directory(directory / name):
            files.remove_tree(directory / name)
        else:
            files.remove(directory / name)
    return len(names)
