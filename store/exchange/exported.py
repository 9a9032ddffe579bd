"""Read exports back; every file is checked against the export's manifest."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, NotFound
from isogloss.store.disk import signed_json
from isogloss.store.disk.checksums import file_crc32c
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.exchange.export import (
    DOCUMENTS_NAME,
    EXPORT_VERSIONS,
    MANIFEST_NAME,
    STEPS_VERSION,
    VOCABULARY_NAME,
)
from isogloss.store.exchange.importing import ImportColumns, ImportPlan
from isogloss.store.exchange.sources import ImportSource, NumpyRows, SafetensorsRows, ZarrRows
from isogloss.store.formats.documents import read_strings
from isogloss.store.formats.zarr_arrays import ArrayFile, read_attributes
from isogloss.store.schema.document import KEY_BYTES, Document
from isogloss.store.schema.json_fields import (
    check_version,
    get_count,
    get_mapping,
    get_text,
    is_list,
    is_mapping,
)
from isogloss.store.schema.recording_spec import RecordingSpec

_SHARD_NAME = re.compile(r"recording-\d{5,}-of-\d{5,}\.safetensors")


def open_export(directory: Path, files: FileSystem | None = None) -> ImportPlan:
    """Read what is in an export, as the arguments of :func:`import_recording`.

    The files of a safetensors or numpy export are read once and checked against the manifest; the
    chunks of a zarr export are checked as they are read.

    Args:
        directory: the export's directory.
        files: file operations to use; by default those of the operating system.

    Returns:
        Sources and columns of the rows, the vocabulary and the specification.

    Raises:
        NotFound: there is no export in the directory.
        CorruptData: a file is missing, damaged or cut short.
        UnsupportedVersion: a later release wrote it.
    """
    files = files or FileSystem()
    try:
        with storage_errors(f"export {directory} cannot be read"):
            if files.exists(directory / MANIFEST_NAME):
                return _open_files(files, directory)
            return _open_zarr(files, directory)
    except FileNotFoundError as error:
        raise CorruptData(f"export {directory} lacks a file: {error}") from error
    except (KeyError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise CorruptData(f"export {directory} cannot be read: {error}") from error


def _open_zarr(files: FileSystem, directory: Path) -> ImportPlan:
    attributes = read_attributes(files, directory)
    if "spec" not in attributes:
        raise NotFound(f"{directory} is a zarr group and no export of a recording")
    check_version(attributes, f"export {directory}", EXPORT_VERSIONS)
    has_steps = attributes["schema_version"] == STEPS_VERSION
    spec = RecordingSpec.from_dict(get_mapping(attributes, "spec"))
    names = ["documents_key", "documents_has_text"]
    names += [f"{name}_{end}" for name in ("text", "group", "token") for end in ("bytes", "ends")]
    arrays = {name: ArrayFile(files, directory / name).read() for name in names}
    sources: dict[str, ImportSource] = {
        site.name: ZarrRows(directory / f"site-{index}", files)
        for index, site in enumerate(spec.sites)
    }
    columns = ImportColumns(
        token_id=ZarrRows(directory / "token_id", files),
        documents=_zarr_documents(arrays),
        document=ZarrRows(directory / "document", files),
        position=ZarrRows(directory / "position", files),
        span=ZarrRows(directory / "span", files) if spec.has_spans else None,
        step=ZarrRows(directory / "step", files) if has_steps else None,
    )
    vocabulary = tuple(t.decode("utf-8", "surrogatepass") for t in read_strings(arrays, "token"))
    return ImportPlan(spec=spec, vocabulary=vocabulary, sources=sources, columns=columns)


def _zarr_documents(arrays: dict[str, NDArray[np.generic]]) -> list[Document]:
    keys = arrays["documents_key"].tobytes()
    texts, groups = read_strings(arrays, "text"), read_strings(arrays, "group")
    has_text = arrays["documents_has_text"].tolist()
    return [
        Document(
            key=keys[KEY_BYTES * i : KEY_BYTES * (i + 1)],
            text=text.decode() if known else None,
            group=group.decode("utf-8", "surrogatepass"),
        )
        for i, (text, group, known) in enumerate(zip(texts, groups, has_text, strict=True))
    ]


def _open_files(files: FileSystem, directory: Path) -> ImportPlan:
    what = f"manifest of export {directory}"
    content = files.read_whole(directory / MANIFEST_NAME)
    manifest = signed_json.decode(content, what, EXPORT_VERSIONS)
    spec = RecordingSpec.from_dict(get_mapping(manifest, "spec"))
    written = get_mapping(manifest, "files")
    for name in written:
        if Path(name).name != name:
            raise CorruptData(f"{what} names {name!r}, which is no plain file name")
        _check_file(files, directory / name, get_mapping(written, name))
    form = get_text(manifest, "form")
    columns = _column_names(spec, has_steps=manifest["schema_version"] == STEPS_VERSION)
    if form == "numpy":
        names = [f"site-{index}.npy" for index in range(len(spec.sites))]
        sources: dict[str, ImportSource] = {
            site.name: NumpyRows(directory / name, files)
            for site, name in zip(spec.sites, names, strict=True)
        }
        found: dict[str, ImportSource] = {
            name: NumpyRows(directory / f"{name}.npy", files) for name in columns
        }
    elif form == "safetensors":
        shards = sorted(name for name in written if _SHARD_NAME.fullmatch(name))
        paths = [directory / name for name in shards]
        tensors = {site.name: SafetensorsRows(paths, site.name, files) for site in spec.sites}
        sources = dict(tensors)
        found = {name: SafetensorsRows(paths, name, files) for name in columns}
    else:
        raise CorruptData(f"{what} says form {form!r}, wanted 'numpy' or 'safetensors'")
    given = ImportColumns(
        token_id=found["token_id"],
        documents=_read_documents(files, directory),
        document=found["document"],
        position=found["position"],
        span=found.get("span"),
        step=found.get("step"),
    )
    vocabulary: object = json.loads(files.read_whole(directory / VOCABULARY_NAME))
    tokens = vocabulary if is_list(vocabulary) else []
    return ImportPlan(
        spec=spec, vocabulary=tuple(str(t) for t in tokens), sources=sources, columns=given
    )


def _column_names(spec: RecordingSpec, *, has_steps: bool) -> list[str]:
    return [
        *("token_id", "document", "position"),
        *(["span"] if spec.has_spans else []),
        *(["step"] if has_steps else []),
    ]


def _read_documents(files: FileSystem, directory: Path) -> list[Document]:
    documents: list[Document] = []
    for line in files.read_whole(directory / DOCUMENTS_NAME).splitlines():
        entry: object = json.loads(line)
        if not is_mapping(entry):
            raise CorruptData(f"{DOCUMENTS_NAME} of export {directory} holds no objects")
        text = entry.get("text")
        documents.append(
            Document(
                key=bytes.fromhex(get_text(entry, "key")),
                text=None if text is None else get_text(entry, "text"),
                group=get_text(entry, "group"),
            )
        )
    return documents


def _check_file(files: FileSystem, path: Path, wanted: Mapping[str, object]) -> None:
    """Raise CorruptData for a file that differs from the manifest's description."""
    descriptor = files.open(path)
    try:
        size = files.size(descriptor)
        if size != get_count(wanted, "bytes"):
            raise CorruptData(f"{path} has {size} bytes, its manifest says {wanted['bytes']}")
        checksum = file_crc32c(files, descriptor, 0, size)
    finally:
        files.close(descriptor)
    if f"{checksum:08x}" != wanted.get("crc32c"):
        raise CorruptData(f"{path} does not match its checksum: export it again")
