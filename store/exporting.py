"""Export: a revision as one plain zarr group that needs nothing of this package to be read."""

from pathlib import Path

import numpy as np

from isogloss.store.arrays import GroupWriter
from isogloss.store.filesystem import FileSystem, storage_errors
from isogloss.store.lane_files import write_strings
from isogloss.store.readers import RecordingReader
from isogloss.store.specs import SCHEMA_VERSION

_CHUNK_BYTES = 16 << 20


def export_recording(
    reader: RecordingReader, directory: Path, *, files: FileSystem | None = None
) -> None:
    """Write all rows of a revision as a zarr v3 group; whole or absent after any crash.

    Arrays: ``site-0``, ``site-1``, … in the order of the specification, ``token_id``,
    ``document``, ``position``, ``span`` where there is one, and the documents as
    ``documents_id`` with their texts as ``text_bytes`` and ``text_ends`` (an empty text where none
    is known). Attributes: ``spec`` and ``revision``. Memory stays at a few chunks.

    Args:
        reader: of the revision.
        directory: becomes the group; whatever stood there before is replaced entirely.
        files: where to write; the operating system's files by default.

    Raises:
        StorageFull: there is no room; nothing changed.
    """
    with storage_errors(f"recording {reader.spec.recording!r} cannot be exported"):
        group = GroupWriter(files or FileSystem(), directory)
        try:
            for index, site in enumerate(reader.spec.sites):
                rows = max(1, _CHUNK_BYTES // site.row_bytes)
                array = group.array(f"site-{index}", site.numpy_dtype, (site.width,), rows)
                for start in range(0, reader.rows, rows):
                    array.append(reader.read(site.name, start, min(start + rows, reader.rows)))
            columns = reader.tokens()
            group.write("token_id", columns.token_id)
            group.write("document", columns.document)
            group.write("position", columns.position)
            if columns.span is not None:
                group.write("span", columns.span)
            documents = reader.documents()
            group.write("documents_id", np.array(list(documents), np.uint64))
            write_strings(group, "text", [(d.text or "").encode() for d in documents.values()])
            group.finish(
                {
                    "schema_version": SCHEMA_VERSION,
                    "spec": reader.spec.to_dict(),
                    "revision": reader.revision.to_dict(),
                }
            )
        except BaseException:
            group.abandon()
            raise
