"""Plan an import on the command line: from an export, or from files named one by one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard, cast

import numpy as np

from isogloss.errors import InvalidInput
from isogloss.store import (
    Document,
    ImportColumns,
    ImportPlan,
    ModelInfo,
    RecordingSpec,
    RowsSource,
    SiteSpec,
    open_export,
    open_source,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedFiles:
    """Files that hold the rows and columns of a recording to be made."""

    recording: str
    """Its id."""
    sites: Mapping[str, Path]
    """Per site the file of its rows."""
    token_id: Path
    """Token of each row."""
    document: Path | None
    """Document of each row; None: cut by ``rows_per_document``."""
    rows_per_document: int | None
    """Each so many rows are of the next document."""
    documents: Path | None
    """JSON lines with ``text`` or ``key``, and ``group``; None: documents are their token ids."""
    vocabulary: Path | None
    """JSON list of token strings by id; None: tokens are shown by id."""
    model: str
    """Name of the model."""
    tokenizer: str
    """Equal names, equal token ids."""
    corpus: str
    """Name of the text, as the recording shows it."""


def plan_of_export(directory: Path, recording: str) -> ImportPlan:
    """Return what an export holds, to be recorded under an id; empty: under its own."""
    plan = open_export(directory)
    return replace(plan, spec=replace(plan.spec, recording=recording)) if recording else plan


def plan_of_files(files: NamedFiles) -> ImportPlan:
    """Return what files hold.

    Raises:
        InvalidInput: a file is no list of what it should be, or a dtype cannot be stored.
        NotFound: there is no such file.
        CorruptData: the header of a file lies.
    """
    spec = RecordingSpec(
        recording=files.recording,
        model=ModelInfo(name=files.model),
        tokenizer=files.tokenizer,
        corpus=files.corpus,
        sites=tuple(_site(name, path) for name, path in files.sites.items()),
        has_spans=False,
    )
    token_id = open_source(files.token_id, "token_id")
    columns = ImportColumns(
        token_id=token_id,
        documents=_documents(files, token_id),
        document=files.document,
        rows_per_document=files.rows_per_document,
    )
    vocabulary = () if files.vocabulary is None else tuple(_texts(files.vocabulary))
    return ImportPlan(spec=spec, vocabulary=vocabulary, sources=files.sites, columns=columns)


def _site(name: str, path: Path) -> SiteSpec:
    """Describe a site by the header of its file."""
    source = open_source(path, name)
    # numpy has no bfloat16: what carries it is its bits
    found = "bfloat16" if source.dtype == np.uint16 else source.dtype.name
    if found not in ("bfloat16", "float16", "float32") or len(source.row_shape) != 1:
        raise InvalidInput(
            f"{path} holds {source.dtype} {['rows', *source.row_shape]}, wanted bfloat16 (in .npy "
            "as uint16), float16 or float32 ['rows', width]: convert it"
        )
    return SiteSpec(name=name, width=source.row_shape[0], dtype=found)


def _documents(files: NamedFiles, token_id: RowsSource) -> list[Document]:
    """Return the documents that a file names, or that token ids are."""
    if files.documents is not None:
        return [_document(files.documents, line) for line in _read(files.documents).splitlines()]
    each = files.rows_per_document
    if each is None:
        raise InvalidInput(
            "rows name their documents and no file says what these are: give --documents"
        )
    starts = range(0, token_id.rows, each)
    return [
        Document.from_token_ids(token_id.read(start, min(start + each, token_id.rows)))
        for start in starts
    ]


def _document(path: Path, line: str) -> Document:
    found = _json(path, line)
    if not _is_object(found):
        raise InvalidInput(f"{path} holds {line[:60]!r}, wanted a JSON object in each line")
    text, key, group = found.get("text"), found.get("key"), found.get("group") or ""
    if not isinstance(group, str):
        raise InvalidInput(f"{path} holds the group {group!r}, wanted text")
    if isinstance(text, str):
        return Document.from_text(text, group)
    try:
        return Document(key=bytes.fromhex(str(key)), group=group)
    except ValueError as error:
        raise InvalidInput(
            f"{path} holds {line[:60]!r}, which has neither a text nor a key of 64 digits"
        ) from error


def _texts(path: Path) -> Sequence[str]:
    found = _json(path, _read(path))
    if not isinstance(found, list):
        raise InvalidInput(f"{path} is no JSON list of token strings, by token id")
    texts = cast("list[object]", found)
    if not all(isinstance(text, str) for text in texts):
        raise InvalidInput(f"{path} is no JSON list of token strings, by token id")
    return cast("list[str]", texts)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").removeprefix("\ufeff")  # a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def _json(path: Path, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} holds {text[:60]!r}, which is no JSON: {error}") from error


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)
