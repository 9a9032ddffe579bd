"""Documents and strings stored as array files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.formats.zarr_arrays import GroupWriter, read_arrays
from isogloss.store.schema.document import KEY_BYTES, Document
from isogloss.store.schema.known_documents import KnownDocuments


def write_documents(files: FileSystem, directory: Path, documents: list[Document]) -> None:
    """Write documents as arrays: keys, and texts and groups as UTF-8 with their ends."""
    texts = [b"" if d.text is None else d.text.encode() for d in documents]
    groups = [d.group.encode("utf-8", "surrogatepass") for d in documents]
    group = GroupWriter(files, directory)
    try:
        keys = np.frombuffer(b"".join(d.key for d in documents), np.uint8)
        group.write("key", keys.reshape(-1, KEY_BYTES))
        group.write("has_text", np.array([d.text is not None for d in documents], np.bool_))
        write_strings(group, "text", texts)
        write_strings(group, "group", groups)
        group.finish({"documents": len(documents)})
    except BaseException:
        group.abandon()
        raise


def read_documents(files: FileSystem, directory: Path) -> list[Document]:
    """Return the documents of a directory, in order."""
    arrays, _ = read_arrays(directory, files=files)
    try:
        keys = arrays["key"].tobytes()
        texts, groups = read_strings(arrays, "text"), read_strings(arrays, "group")
        return [
            Document(
                key=keys[KEY_BYTES * i : KEY_BYTES * (i + 1)],
                text=text.decode() if has_text else None,
                group=group.decode("utf-8", "surrogatepass"),
            )
            for i, (text, group, has_text) in enumerate(
                zip(texts, groups, arrays["has_text"].tolist(), strict=True)
            )
        ]
    except (KeyError, ValueError) as error:
        raise CorruptData(f"documents of lane {directory.parent.name!r}: {error}") from error


def write_known(files: FileSystem, directory: Path, known: KnownDocuments) -> None:
    """Write which documents have rows at which step as arrays."""
    group = GroupWriter(files, directory)
    try:
        group.write("document", known.document)
        group.write("step", known.step)
        group.write("rows", known.rows)
        group.finish({"pairs": len(known.document)})
    except BaseException:
        group.abandon()
        raise


def read_known(files: FileSystem, directory: Path) -> KnownDocuments:
    """Return what :func:`write_known` wrote; NotFound where there is none."""
    arrays, _ = read_arrays(directory, files=files)
    try:
        return KnownDocuments.count(arrays["document"], arrays["step"], arrays["rows"])
    except (KeyError, ValueError) as error:
        raise CorruptData(f"known documents of {directory.parent.name!r}: {error}") from error


def write_strings(group: GroupWriter, name: str, values: list[bytes]) -> None:
    """Write byte strings as one run of bytes and where each ends."""
    ends = np.cumsum([len(value) for value in values], dtype=np.int64)
    group.write(f"{name}_bytes", np.frombuffer(b"".join(values), np.uint8))
    group.write(f"{name}_ends", ends)


def read_strings(arrays: dict[str, NDArray[np.generic]], name: str) -> list[bytes]:
    """Return what :func:`write_strings` wrote; CorruptData where it is not there, or no strings."""
    missing = [part for part in (f"{name}_bytes", f"{name}_ends") if part not in arrays]
    if missing:
        raise CorruptData(f"strings {name!r} lack {missing}: restore them from a copy")
    content = arrays[f"{name}_bytes"].tobytes()
    ends = [int(end) for end in arrays[f"{name}_ends"].tolist()]
    if ends != sorted(ends) or (ends[-1] if ends else 0) != len(content):
        raise CorruptData(f"ends of {name!r} do not fit its {len(content)} bytes")
    return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
