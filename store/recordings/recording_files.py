"""The files that every recording has from its creation on: description and vocabulary."""

from collections.abc import Sequence
from pathlib import Path

from isogloss.errors import NotFound
from isogloss.store.disk import signed_json
from isogloss.store.disk.filesystem import FileSystem, storage_errors, write_new
from isogloss.store.formats.documents import write_strings
from isogloss.store.formats.zarr_arrays import GroupWriter
from isogloss.store.schema.json_fields import SCHEMA_VERSION, get_count, get_mapping
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.layout import DEFAULT_SHARD_BYTES


def create_recording_files(
    files: FileSystem,
    directory: Path,
    spec: RecordingSpec,
    vocabulary: Sequence[str],
    shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Create the files of a recording without lanes. They are durable when this returns."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "spec": spec.to_dict(),
        "shard_bytes": shard_bytes,
    }
    with storage_errors(f"recording {spec.recording!r} cannot be created"):
        files.make_directory(directory)
        files.make_directory(directory / "lanes")
        group = GroupWriter(files, directory / "vocabulary")
        write_strings(group, "token", [t.encode("utf-8", "surrogatepass") for t in vocabulary])
        group.finish({"tokens": len(vocabulary)})
        write_new(files, directory / "recording.json", [signed_json.encode(document)])
        files.sync_directory(directory)
        files.sync_directory(directory.parent)


def read_description(files: FileSystem, directory: Path) -> tuple[RecordingSpec, int]:
    """Return what is recorded, and about how large a shard becomes; NotFound when it is gone."""
    try:
        with storage_errors(f"recording at {directory} cannot be read"):
            content = files.read_whole(directory / "recording.json")
    except FileNotFoundError as error:
        raise NotFound(f"recording at {directory} is gone") from error
    document = signed_json.decode(content, f"{directory / 'recording.json'}")
    spec = RecordingSpec.from_dict(get_mapping(document, "spec"))
    return spec, get_count(document, "shard_bytes")
