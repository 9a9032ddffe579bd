"""The files that every recording has from its creation on: description and vocabulary."""

import json
from collections.abc import Sequence
from pathlib import Path

from isogloss.errors import InvalidInput, NotFound
from isogloss.store.disk import signed_json
from isogloss.store.disk.filesystem import FileSystem, storage_errors, write_new
from isogloss.store.formats.documents import write_strings
from isogloss.store.formats.zarr_arrays import GroupWriter
from isogloss.store.lanes.lane_directory import MANIFEST_NAME
from isogloss.store.lanes.recording_version import DESCRIPTION_NAME, RECORDING_VERSIONS
from isogloss.store.recordings.manifest import HAS_MANIFEST
from isogloss.store.schema.json_fields import SCHEMA_VERSION, get_count, get_mapping
from isogloss.store.schema.names import check_text
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.layout import DEFAULT_SHARD_BYTES

MAX_DESCRIPTION_BYTES = 4 << 20
"""Longest description of a recording, and longest vocabulary: what one message carries."""


def create_recording_files(
    files: FileSystem,
    directory: Path,
    spec: RecordingSpec,
    vocabulary: Sequence[str],
    shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Create the files of a recording without lanes. They are durable when this returns.

    Raises:
        InvalidInput: the description or the vocabulary is too long to be read through a server, or
            the description has a text that UTF-8 cannot hold. Nothing was created.
    """
    tokens = [token.encode("utf-8", "surrogatepass") for token in vocabulary]
    _check_sizes(spec, tokens)
    document = {
        "schema_version": SCHEMA_VERSION,
        "spec": spec.to_dict(),
        "shard_bytes": shard_bytes,
        HAS_MANIFEST: True,
    }
    with storage_errors(f"recording {spec.recording!r} cannot be created"):
        files.make_directory(directory)
        files.make_directory(directory / "lanes")
        files.make_directory(directory / MANIFEST_NAME)
        group = GroupWriter(files, directory / "vocabulary")
        write_strings(group, "token", tokens)
        group.finish({"tokens": len(vocabulary)})
        write_new(files, directory / DESCRIPTION_NAME, [signed_json.encode(document)])
        files.sync_directory(directory)
        files.sync_directory(directory.parent)


def _check_sizes(spec: RecordingSpec, tokens: Sequence[bytes]) -> None:
    text = json.dumps(spec.to_dict(), ensure_ascii=False)
    check_text(text, f"the description of recording {spec.recording!r}")
    sizes = {
        "description (ancestry, provenance, sites)": len(text.encode()),
        "vocabulary": sum(map(len, tokens)) + len(tokens),
    }
    for what, size in sizes.items():
        if size > MAX_DESCRIPTION_BYTES:
            raise InvalidInput(
                f"the {what} of recording {spec.recording!r} has {size} bytes, wanted at most "
                f"{MAX_DESCRIPTION_BYTES}: keep what is longer in a file, and its name here"
            )


def read_description(files: FileSystem, directory: Path) -> tuple[RecordingSpec, int]:
    """Return what is recorded, and about how large a shard becomes; NotFound when it is gone."""
    try:
        with storage_errors(f"recording at {directory} cannot be read"):
            content = files.read_whole(directory / DESCRIPTION_NAME)
    except FileNotFoundError as error:
        raise NotFound(f"recording at {directory} is gone") from error
    what = str(directory / DESCRIPTION_NAME)
    document = signed_json.decode(content, what, RECORDING_VERSIONS)
    spec = RecordingSpec.from_dict(get_mapping(document, "spec"))
    return spec, get_count(document, "shard_bytes")
