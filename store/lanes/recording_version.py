"""The version of a recording: raised when the first row with a training step is about to come.

A release that knows no steps would read such a recording as if all its rows were of step 0, and
lose the steps when it joins lanes. It refuses a ``recording.json`` of version 2 instead. Recordings
whose rows are all of step 0 stay at version 1.
"""

from collections.abc import Mapping
from pathlib import Path

from isogloss.errors import NotFound
from isogloss.store.disk import signed_json
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.schema.json_fields import SCHEMA_VERSION, get_count

DESCRIPTION_NAME = "recording.json"
STEPS_VERSION = 2
"""The version of a recording whose rows may have steps."""
RECORDING_VERSIONS = (SCHEMA_VERSION, STEPS_VERSION)
"""The versions of ``recording.json`` that this release reads."""

_TRIES = 3


def allow_steps(files: FileSystem, directory: Path) -> None:
    """Make durable that rows of a recording may have steps. Does nothing where that was done.

    Args:
        files: the file system that the recording is on.
        directory: the recording's directory.

    Raises:
        NotFound: the recording was deleted.
        CorruptData: its description does not match its checksum.
        OSError: the description could not be replaced; it is what it was.
    """
    path = directory / DESCRIPTION_NAME
    for turn in range(_TRIES):
        document = _read(files, directory)
        if document["schema_version"] == STEPS_VERSION:
            files.sync_directory(directory)  # whoever replaced it may have been killed before
            return
        raised = signed_json.encode({**document, "schema_version": STEPS_VERSION})
        try:
            files.write_whole(path, [raised])
        except FileNotFoundError:  # garbage collection took the half-written file away
            if turn + 1 == _TRIES:
                raise
        else:
            return


def read_version(files: FileSystem, directory: Path) -> int:
    """Return the version of a recording, one of ``RECORDING_VERSIONS``.

    Args:
        files: the file system that the recording is on.
        directory: the recording's directory.

    Returns:
        The version.

    Raises:
        NotFound: the recording was deleted.
        UnsupportedVersion: a later release wrote it.
        CorruptData: its description does not match its checksum.
    """
    with storage_errors(f"recording at {directory} cannot be read"):
        return get_count(_read(files, directory), "schema_version")


def _read(files: FileSystem, directory: Path) -> Mapping[str, object]:
    path = directory / DESCRIPTION_NAME
    try:
        content = files.read_whole(path)
    except FileNotFoundError as error:
        raise NotFound(f"recording at {directory} is gone: it was deleted") from error
    return signed_json.decode(content, str(path), RECORDING_VERSIONS)
