"""Export: a revision as plain zarr, safetensors or numpy files, read without this package.

Every form holds all rows of the chosen sites, the token columns, the documents and the vocabulary;
``docs/store-format.md`` says under which names. Memory stays at a few blocks of rows.
"""

import json
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import AlreadyExists, InvalidInput
from isogloss.store.disk import signed_json
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem, make_directories, storage_errors
from isogloss.store.disk.leftovers import held, sweep_partials
from isogloss.store.formats.documents import write_strings
from isogloss.store.formats.npy import npy_header
from isogloss.store.formats.safetensors import safetensors_header
from isogloss.store.formats.zarr_arrays import GroupWriter
from isogloss.store.recordings.recording import Recording
from isogloss.store.schema.batch import TokenColumns, as_bytes
from isogloss.store.schema.document import KEY_BYTES, Document
from isogloss.store.schema.json_fields import SCHEMA_VERSION
from isogloss.store.schema.recording_spec import RecordingSpec, Rows
from isogloss.store.schema.revision import Revision
from isogloss.store.schema.steps import step_runs

Form = Literal["zarr", "safetensors", "numpy"]
FORMS: tuple[Form, ...] = ("zarr", "safetensors", "numpy")
MANIFEST_NAME = "manifest.json"
INDEX_NAME = "recording.safetensors.index.json"
DOCUMENTS_NAME = "documents.jsonl"
VOCABULARY_NAME = "vocabulary.json"
_BLOCK_BYTES = 16 << 20
STEPS_VERSION = 2
"""Schema version of an export with a column of steps; of others it is 1."""
EXPORT_VERSIONS = (SCHEMA_VERSION, STEPS_VERSION)
"""The versions that this release reads."""

Piece: TypeAlias = bytes | NDArray[np.uint8]
"""Some bytes of a file that is being written."""


@runtime_checkable
class ExportSource(Protocol):
    """The members of a reader, local or remote, that an export uses."""

    @property
    def spec(self) -> RecordingSpec:
        """Specification of the recording."""
        ...

    @property
    def revision(self) -> Revision:
        """The revision that is exported."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    def read(self, site: str, start: int, stop: int) -> Rows:
        """Return rows ``[start, stop)`` of a site."""
        ...

    def tokens(self, start: int = 0, stop: int | None = None) -> TokenColumns:
        """Return the token columns of rows ``[start, stop)``."""
        ...

    def documents(self) -> dict[int, Document]:
        """Return the documents by id."""
        ...


def export_recording(
    recording: Recording,
    target: Path,
    *,
    form: Form = "zarr",
    revision: Revision | None = None,
    sites: Sequence[str] | None = None,
    files: FileSystem | None = None,
) -> None:
    """Write the rows of a recording to files that other tools read.

    Args:
        recording: the recording to export.
        target: the directory to create. It appears when the export is complete; after a crash it is
            absent.
        form: ``zarr`` (one v3 group), ``safetensors`` (files of about 1 GiB and an index), or
            ``numpy`` (one ``.npy`` a site and column, which can be mapped into memory).
        revision: the revision to export; all that is committed now by default.
        sites: names of the sites; all by default.
        files: file operations to use; by default those of the operating system.

    Raises:
        AlreadyExists: something is at ``target`` already.
        InvalidInput: the form is unknown, or ``sites`` is empty.
        UnknownSite: the recording has no such site.
        StorageFull: the disk is full; nothing is left at ``target``.
    """
    reader = recording.reader(revision)
    vocabulary = recording.vocabulary()
    export_rows(reader, target, form=form, sites=sites, vocabulary=vocabulary, files=files)


def export_rows(
    source: ExportSource,
    target: Path,
    *,
    form: Form = "zarr",
    sites: Sequence[str] | None = None,
    vocabulary: Sequence[str] = (),
    files: FileSystem | None = None,
    shard_bytes: int = 1 << 30,
) -> None:
    """Write the rows of a source to files in a new directory; see :func:`export_recording`.

    Args:
        source: gives the rows, from a store or through a client.
        target: the directory to create. It appears when all files are complete.
        form: one of ``FORMS``.
        sites: names of the sites; all by default.
        vocabulary: token strings of the tokenizer.
        files: where to write; the operating system's files by default.
        shard_bytes: about how large a safetensors file becomes.

    Raises:
        InvalidInput: ``form`` is unknown, ``shard_bytes`` is below 1, or ``sites`` is empty.
        AlreadyExists: something is at ``target`` already.
    """
    files = files or FileSystem()
    form = check_form(form)
    if shard_bytes < 1 or (sites is not None and not sites):
        raise InvalidInput(f"shard_bytes {shard_bytes} must be positive, and sites name some site")
    if files.exists(target):
        raise AlreadyExists(f"{target} exists: choose another place, or remove it first")
    spec = source.spec
    if sites is not None:
        spec = replace(spec, sites=tuple(spec.sites[spec.site_index(s)] for s in sites))
    with storage_errors(f"recording {spec.recording!r} cannot be exported"):
        make_directories(files, target.parent)
        sweep_partials(files, target)
        export = _Export(source, spec, tuple(vocabulary))
        if form == "zarr":
            _write_zarr(files, target, export)
            return
        out = _ExportDirectory(files, target)
        try:
            with held(files, out.directory):
                if form == "numpy":
                    _write_numpy(out, export)
                else:
                    _write_safetensors(out, export, shard_bytes)
                _write_documents(out, export)
                _write_manifest(out, export, form)
                out.finish()
        except BaseException:
            out.abandon()
            raise


def check_form(form: str) -> Form:
    """Return ``form`` when it is one that can be exported; InvalidInput otherwise."""
    match form:
        case "zarr" | "safetensors" | "numpy":
            return form
        case _:
            raise InvalidInput(f"form is {form!r}, wanted one of {list(FORMS)}")


class _Export:
    """The rows to export, as columns that are read in blocks."""

    def __init__(
        self, source: ExportSource, spec: RecordingSpec, vocabulary: tuple[str, ...]
    ) -> None:
        self.source = source
        self.spec = spec
        self.vocabulary = vocabulary
        self.columns: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]] = {
            "token_id": (np.dtype(np.uint32), ()),
            "document": (np.dtype(np.uint64), ()),
            "position": (np.dtype(np.uint32), ()),
        }
        if spec.has_spans:
            self.columns["span"] = (np.dtype(np.uint32), (2,))
        self.has_steps = self._find_steps()
        """Whether some row was recorded at a training step other than 0."""
        if self.has_steps:
            self.columns["step"] = (np.dtype(np.uint64), ())

    def _find_steps(self) -> bool:
        for low, high in _blocks(0, self.source.rows, 24):
            if any(step for step, _ in step_runs(self.source.tokens(low, high).step)):
                return True
        return False

    @property
    def version(self) -> int:
        """Schema version of the export: who knows no steps must not read one as if it had none."""
        return STEPS_VERSION if self.has_steps else SCHEMA_VERSION

    @property
    def row_bytes(self) -> int:
        """Bytes of a row over all sites and columns."""
        columns = sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.columns.values())
        return self.spec.row_bytes + columns

    def site_blocks(self, site: str, start: int, stop: int) -> Iterator[Rows]:
        """Yield rows of a site in blocks."""
        row_bytes = self.spec.sites[self.spec.site_index(site)].row_bytes
        for low, high in _blocks(start, stop, row_bytes):
            yield self.source.read(site, low, high)

    def column_blocks(self, name: str, start: int, stop: int) -> Iterator[NDArray[np.generic]]:
        """Yield a token column in blocks."""
        for low, high in _blocks(start, stop, 24):
            columns = self.source.tokens(low, high)
            found = {
                "token_id": columns.token_id,
                "document": columns.document,
                "position": columns.position,
                "span": columns.span,
                "step": columns.step,
            }[name]
            if found is None:
                raise InvalidInput(f"rows from {low} lack spans, which the recording has")
            yield found


def _blocks(start: int, stop: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    step = max(1, _BLOCK_BYTES // row_bytes)
    for low in range(start, stop, step):
        yield low, min(stop, low + step)


def _write_zarr(files: FileSystem, target: Path, export: _Export) -> None:
    group = GroupWriter(files, target)
    try:
        with held(files, group.directory):
            _write_group(group, export)
    except BaseException:
        group.abandon()
        raise


def _write_group(group: GroupWriter, export: _Export) -> None:
    rows = export.source.rows
    for index, site in enumerate(export.spec.sites):
        chunk_rows = max(1, _BLOCK_BYTES // site.row_bytes)
        array = group.array(f"site-{index}", site.numpy_dtype, (site.width,), chunk_rows)
        for block in export.site_blocks(site.name, 0, rows):
            array.append(block)
    for name, (dtype, row_shape) in export.columns.items():
        array = group.array(name, dtype, row_shape)
        for column in export.column_blocks(name, 0, rows):
            array.append(column)
    documents = export.source.documents()
    group.write("documents_id", np.array(list(documents), np.uint64))
    keys = np.frombuffer(b"".join(d.key for d in documents.values()), np.uint8)
    group.write("documents_key", keys.reshape(-1, KEY_BYTES))
    has_text = [document.text is not None for document in documents.values()]
    group.write("documents_has_text", np.array(has_text, np.bool_))
    write_strings(group, "text", [(d.text or "").encode() for d in documents.values()])
    groups = [d.group.encode("utf-8", "surrogatepass") for d in documents.values()]
    write_strings(group, "group", groups)
    tokens = [token.encode("utf-8", "surrogatepass") for token in export.vocabulary]
    write_strings(group, "token", tokens)
    group.finish(
        {
            "schema_version": export.version,
            "spec": export.spec.to_dict(),
            "revision": export.source.revision.to_dict(),
        }
    )


class _ExportDirectory:
    """A directory of files that appears under its name only when it is complete."""

    def __init__(self, files: FileSystem, target: Path) -> None:
        self._files = files
        self._target = target
        self.directory = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        """Where it is written until it is complete."""
        self.written: dict[str, dict[str, object]] = {}
        """Length and checksum of each file."""
        files.make_directory(self.directory)

    def write(self, name: str, pieces: Iterator[Piece]) -> None:
        """Write a file piece by piece and sync it."""
        descriptor = self._files.create(self.directory / name)
        offset, checksum = 0, 0
        try:
            for piece in pieces:
                self._files.write(descriptor, [piece], offset)
                checksum = crc32c(piece, checksum)
                offset += len(piece)
            self._files.sync_data(descriptor)
        finally:
            self._files.close(descriptor)
        self.written[name] = {"bytes": offset, "crc32c": f"{checksum:08x}"}

    def finish(self) -> None:
        """Give the directory its name.

        Raises:
            AlreadyExists: somebody else took it meanwhile.
        """
        self._files.sync_directory(self.directory)
        if self._files.exists(self._target):
            raise AlreadyExists(f"{self._target} exists by now: choose another place")
        self._files.replace(self.directory, self._target)
        self._files.sync_directory(self._target.parent)

    def abandon(self) -> None:
        """Remove what was written."""
        self._files.remove_tree(self.directory)


def _write_numpy(out: _ExportDirectory, export: _Export) -> None:
    rows = export.source.rows
    for index, site in enumerate(export.spec.sites):
        is_carried = site.dtype == "bfloat16"
        dtype = np.dtype(np.uint16) if is_carried else site.numpy_dtype
        header = npy_header(dtype, (rows, site.width))
        blocks = export.site_blocks(site.name, 0, rows)
        out.write(f"site-{index}.npy", _pieces(header, blocks))
    for name, (dtype, row_shape) in export.columns.items():
        header = npy_header(dtype, (rows, *row_shape))
        out.write(f"{name}.npy", _pieces(header, export.column_blocks(name, 0, rows)))


def _pieces(head: bytes, blocks: Iterator[NDArray[np.generic]]) -> Iterator[Piece]:
    yield head
    for block in blocks:
        yield as_bytes(block)


def _write_safetensors(out: _ExportDirectory, export: _Export, shard_bytes: int) -> None:
    """Write files that each hold some rows of all sites and columns, and the index of them."""
    taken = [site.name for site in export.spec.sites if site.name in export.columns]
    if taken:
        raise InvalidInput(f"sites {taken} are named like token columns: export as numpy or zarr")
    rows, row_bytes = export.source.rows, export.row_bytes
    step = max(1, shard_bytes // row_bytes)
    starts = range(0, rows, step) if rows else range(1)
    shards: list[dict[str, object]] = []
    for number, start in enumerate(starts, 1):
        stop = min(rows, start + step)
        name = f"recording-{number:05d}-of-{len(starts):05d}.safetensors"
        out.write(name, _safetensors_pieces(export, start, stop))
        shards.append({"file": name, "first_row": start, "rows": stop - start})
    names = [shard["file"] for shard in shards]
    tensors = [*export.columns, *(site.name for site in export.spec.sites)]
    index = {
        "metadata": {"total_size": rows * row_bytes},
        "weight_map": dict.fromkeys(tensors, names),
        "shards": shards,
    }
    out.write(INDEX_NAME, iter([json.dumps(index, indent=1).encode()]))


def _safetensors_pieces(export: _Export, start: int, stop: int) -> Iterator[Piece]:
    rows = stop - start
    tensors: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]] = {
        name: (dtype, (rows, *row_shape)) for name, (dtype, row_shape) in export.columns.items()
    }
    for site in export.spec.sites:
        tensors[site.name] = (site.numpy_dtype, (rows, site.width))
    # widest numbers first, so that each tensor starts at a multiple of its number's size
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1][0].itemsize))
    note = {"first_row": str(start), "recording": export.spec.recording}
    yield safetensors_header(tensors, note)
    for name in tensors:
        is_column = name in export.columns
        blocks = export.column_blocks if is_column else export.site_blocks
        for block in blocks(name, start, stop):
            yield as_bytes(block)


def _write_documents(out: _ExportDirectory, export: _Export) -> None:
    lines = (
        json.dumps({"key": d.key.hex(), "group": d.group, "text": d.text}).encode() + b"\n"
        for d in export.source.documents().values()
    )
    out.write(DOCUMENTS_NAME, lines)
    out.write(VOCABULARY_NAME, iter([json.dumps(list(export.vocabulary)).encode()]))


def _write_manifest(out: _ExportDirectory, export: _Export, form: Form) -> None:
    sites: list[Mapping[str, object]] = [site.to_dict() for site in export.spec.sites]
    document = {
        "schema_version": export.version,
        "form": form,
        "rows": export.source.rows,
        "spec": export.spec.to_dict(),
        "revision": export.source.revision.to_dict(),
        "files": dict(out.written),
    }
    if form == "numpy":
        document["arrays"] = {
            f"site-{index}.npy": {**site, "stored_as": _stored_as(str(site["dtype"]))}
            for index, site in enumerate(sites)
        }
    out.write(MANIFEST_NAME, iter([signed_json.encode(document)]))


def _stored_as(dtype: str) -> str:
    """Return the dtype in the file: numpy has no bfloat16, so its bits stand as uint16."""
    return "uint16" if dtype == "bfloat16" else dtype
