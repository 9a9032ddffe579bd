"""Import rows of arrays and files, through the same writer as any other batch.

An import is one producer whose batches are cut by a rule that depends on the recording alone. Begun
again after a crash it goes on where the last durable batch ended, and never writes a row twice.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import Conflict, InvalidInput, ShapeError
from isogloss.short_repr import short_repr
from isogloss.store.disk import signed_json
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.exchange.sources import (
    ImportSource,
    RowsSource,
    as_column,
    as_site,
    can_carry,
    open_source,
)
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.recordings.recording import Recording
from isogloss.store.recordings.store import Store
from isogloss.store.schema.batch import RowBatch, TokenColumns, as_bytes
from isogloss.store.schema.document import Document
from isogloss.store.schema.json_fields import SCHEMA_VERSION
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.schema.steps import StepRun, merge_runs, step_runs

_BATCH_BYTES = 8 << 20
_TEXT_BYTES = 32 << 20
"""Most bytes of the texts of a batch; with its rows it is still what a server takes at once."""
_MOST_ROWS = 1 << 16
_LOOK_BACK_ROWS = 1 << 14
_STEP_ROWS = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportColumns:
    """Token, document, position and code points of each imported row."""

    token_id: ImportSource
    """Whole numbers, ``[rows]``; in a ``.safetensors`` file the tensor of that name."""

    documents: Sequence[Document]
    """The documents that rows are of, in any order; with ``rows_per_document`` in the order of the
    rows.
    """

    document: ImportSource | None = None
    """:attr:`Document.id` of each row, ``[rows]``; or give ``rows_per_document``."""

    rows_per_document: int | None = None
    """Number of rows of every document, if it is the same for all; or give ``document``."""

    position: ImportSource | None = None
    """Place in the model's input, ``[rows]``; by default counted from 0 within each document."""

    span: ImportSource | None = None
    """Code points ``[start, end)`` of the document's text that each row covers, ``[rows, 2]``; only
    where the recording has spans.
    """

    step: ImportSource | None = None
    """Training step at which each row was recorded, whole numbers ``[rows]``; by default 0."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if (self.document is None) == (self.rows_per_document is None):
            raise InvalidInput("give either document or rows_per_document, and not both")
        if self.rows_per_document is not None and self.rows_per_document < 1:
            raise InvalidInput(f"rows_per_document {self.rows_per_document} must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportPlan:
    """The arguments of an import, as :func:`open_export` reads them from an export."""

    spec: RecordingSpec
    """Specification of the recording."""

    vocabulary: tuple[str, ...]
    """Token strings of the tokenizer."""

    sources: Mapping[str, ImportSource] = field(default_factory=dict[str, ImportSource])
    """Rows by site."""

    columns: ImportColumns
    """The token columns."""

    __repr__ = short_repr


def import_recording(
    store: Store,
    spec: RecordingSpec,
    vocabulary: Sequence[str],
    sources: Mapping[str, ImportSource],
    *,
    columns: ImportColumns,
    producer: str = "import",
    limits: LaneLimits | None = None,
) -> Recording:
    """Record rows that are in arrays or files, holding a few batches in memory.

    After a crash the same call goes on where it was. When all rows are there it writes nothing.

    Args:
        store: a store that this process owns.
        spec: specification of the recording; created if it does not exist.
        vocabulary: token strings; token id i is the i-th.
        sources: rows of every site of ``spec``, in its dtype (bfloat16 also as uint16).
        columns: token, document and, where known, position and code points of each row.
        producer: name of this import within the recording. A call that goes on gives the same name.
        limits: how large the recording may grow, and how much of the disk must stay free.

    Returns:
        The recording, with all rows durable.

    Raises:
        ShapeError: the sources differ in their number of rows, or one differs from ``spec`` in
            width or dtype.
        CorruptData: a file's header cannot be read or contradicts the file.
        AlreadyExists: a different recording has that id.
        Conflict: an earlier import under this producer's name was of other rows.
        NonFiniteRows: rows hold NaN or infinity, and the recording refuses them.
        StorageFull: the disk or a limit is full; imported rows stay, and the same call goes on.
    """
    rows = ImportedRows(spec, sources, columns)
    recording = store.create_recording(spec, vocabulary)
    done = recording.cursor(producer)
    _check_note(recording, producer, rows.note(producer), done)
    if done < rows.batches:
        with recording.open_lane(limits) as lane:
            for sequence in range(lane.cursors.get(producer, 0) + 1, rows.batches + 1):
                lane.append([rows.batch(producer, sequence)])
    return recording


class ImportedRows:
    """The rows of an import, cut into batches by number."""

    def __init__(
        self, spec: RecordingSpec, sources: Mapping[str, ImportSource], columns: ImportColumns
    ) -> None:
        wanted = {site.name for site in spec.sites}
        if set(sources) != wanted:
            raise ShapeError(
                f"sources are of sites {sorted(sources)}, recording {spec.recording!r} has "
                f"{sorted(wanted)}: give one for each"
            )
        if (columns.span is not None) != spec.has_spans:
            raise ShapeError(
                f"spans were {'not ' if columns.span is None else ''}given and recording "
                f"{spec.recording!r} has has_spans={spec.has_spans}"
            )
        self._spec = spec
        self._columns = columns
        self._sites = {name: open_source(source, name) for name, source in sources.items()}
        self._token_id = open_source(columns.token_id, "token_id")
        self._document = _open(columns.document, "document")
        self._position = _open(columns.position, "position")
        self._span = _open(columns.span, "span")
        self._step = _open(columns.step, "step")
        self.rows = self._token_id.rows
        """How many rows there are."""
        self._known = {document.id: document for document in columns.documents}
        self._text_bytes = {id_: _text_bytes(document) for id_, document in self._known.items()}
        self.batch_rows = max(1, min(_MOST_ROWS, _BATCH_BYTES // spec.row_bytes))
        """Rows of a batch. It depends on what is imported alone, so that an import can go on."""
        self._check()
        self._runs = self._step_runs()
        self.batch_rows = self._fewer_rows(self.batch_rows)
        self._ends = self._cut(self.batch_rows)

    @property
    def batches(self) -> int:
        """Number of batches."""
        return len(self._ends)

    def rows_after(self, sequence: int) -> int:
        """Return how many rows the first ``sequence`` batches hold."""
        return self._ends[sequence - 1] if sequence else 0

    def _step_runs(self) -> list[StepRun]:
        """Return the steps of all rows, as runs of rows that have one."""
        if self._step is None:
            return [(0, self.rows)]
        runs: list[StepRun] = []
        for start in range(0, self.rows, _STEP_ROWS):
            found = self._step.read(start, min(self.rows, start + _STEP_ROWS))
            runs += step_runs(as_column(found, np.uint64, "step"))
        return merge_runs(runs)

    def _cut(self, most_rows: int) -> list[int]:
        """Return the row after each batch: a batch has one step, and ``most_rows`` at most."""
        ends: list[int] = []
        row = 0
        for _, rows in self._runs:
            ends += [row + done for done in range(most_rows, rows, most_rows)]
            row += rows
            ends += [row] if rows else []
        return ends

    def _fewer_rows(self, rows: int) -> int:
        """Return the rows of a batch, halved until no batch has too many bytes of texts."""
        if sum(self._text_bytes.values()) <= _TEXT_BYTES:
            return rows

        def largest(rows: int) -> int:
            batches = itertools.pairwise([0, *self._cut(rows)])
            return max(
                (sum(map(self._size, self._used(start, stop))) for start, stop in batches),
                default=0,
            )

        while rows > 1 and largest(rows) > _TEXT_BYTES:
            rows //= 2
        return rows

    def _size(self, document: int) -> int:
        return self._text_bytes.get(document, 0)

    def _used(self, start: int, stop: int) -> list[int]:
        """Return the documents of some rows, each once."""
        return np.unique(self._documents(start, stop)).tolist()

    def _unused(self) -> list[int]:
        """Return the documents that no row is of."""
        left = dict.fromkeys(self._known)
        for start in range(0, self.rows, _LOOK_BACK_ROWS):
            for document in self._used(start, min(self.rows, start + _LOOK_BACK_ROWS)):
                left.pop(document, None)
        room = _TEXT_BYTES
        kept: list[int] = []
        for document in left:
            room -= self._size(document)
            if room < 0:
                raise InvalidInput(
                    f"{len(left)} documents with no rows have more than {_TEXT_BYTES} bytes of "
                    "text: leave them out"
                )
            kept.append(document)
        return kept

    def _check(self) -> None:
        found = {name: source.rows for name, source in self._all().items()}
        if len(set(found.values())) > 1:
            raise ShapeError(f"sources differ in rows: {found}; give all the same")
        for site in self._spec.sites:
            source = self._sites[site.name]
            fits = source.dtype == site.numpy_dtype or can_carry(source.dtype, site.numpy_dtype)
            if not fits or source.row_shape != (site.width,):
                raise ShapeError(
                    f"site {site.name!r} is {source.dtype} {['rows', *source.row_shape]}, wanted "
                    f"{site.dtype} ['rows', {site.width}]: convert it, or name it so in the spec"
                )
        shapes = {"token_id": (), "document": (), "position": (), "span": (2,), "step": ()}
        for name, source in self._all().items():
            if name not in self._sites and source.row_shape != shapes[name.partition(" ")[2]]:
                raise ShapeError(
                    f"{name} is {['rows', *source.row_shape]}, wanted "
                    f"{['rows', *shapes[name.partition(' ')[2]]]}"
                )
        each = self._columns.rows_per_document
        if each is not None and -(-self.rows // each) != len(self._columns.documents):
            raise ShapeError(
                f"{self.rows} rows, {each} a document, are {-(-self.rows // each)} documents; "
                f"{len(self._columns.documents)} were given"
            )

    def _all(self) -> dict[str, RowsSource]:
        """Return every source; columns under names that no site can be confused with."""
        columns = {
            "column token_id": self._token_id,
            "column document": self._document,
            "column position": self._position,
            "column span": self._span,
            "column step": self._step,
        }
        given = {name: source for name, source in columns.items() if source is not None}
        return {**self._sites, **given}

    def note(self, producer: str) -> dict[str, object]:
        """Return sizes, dtypes, first and last rows, by which this import is told from others."""
        checksums: dict[str, str] = {}
        edge = min(64, self.rows)
        for name, source in self._all().items():
            checksum = crc32c(as_bytes(source.read(0, edge)))
            checksum = crc32c(as_bytes(source.read(self.rows - edge, self.rows)), checksum)
            checksums[name] = f"{source.dtype} {checksum:08x}"
        note: dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "producer": producer,
            "rows": self.rows,
            "batch_rows": self.batch_rows,
            "sources": checksums,
        }
        if self._step is not None:
            note["batches"] = f"{crc32c(as_bytes(np.array(self._ends, '<i8'))):08x}"
        return note

    def batch(self, producer: str, sequence: int) -> RowBatch:
        """Return the batch of a sequence number, from 1."""
        start, stop = self.rows_after(sequence - 1), self.rows_after(sequence)
        columns = self._read_columns(start, stop)
        used = np.unique(columns.document).tolist()
        if stop == self.rows:  # documents that no row is of are kept too
            last = {*used, *self._unused()}
            used = [document for document in self._known if document in last]
        documents = [self._known[found] for found in used if found in self._known]
        return RowBatch(
            producer=producer,
            sequence=sequence,
            sites={
                site.name: as_site(self._sites[site.name].read(start, stop), site.numpy_dtype)
                for site in self._spec.sites
            },
            token_id=columns.token_id,
            document=columns.document,
            position=columns.position,
            span=columns.span,
            documents=tuple(documents),
            step=0 if self._step is None else int(self._step.read(start, start + 1)[0]),
        )

    def _read_columns(self, start: int, stop: int) -> TokenColumns:
        position = self._position
        span = self._span
        return TokenColumns(
            token_id=as_column(self._token_id.read(start, stop), np.uint32, "token_id"),
            document=self._documents(start, stop),
            position=self._count_positions(start, stop)
            if position is None
            else as_column(position.read(start, stop), np.uint32, "position"),
            span=None if span is None else as_column(span.read(start, stop), np.uint32, "span"),
        )

    def _documents(self, start: int, stop: int) -> NDArray[np.generic]:
        """Return the document of each row."""
        if self._document is not None:
            return as_column(self._document.read(start, stop), np.uint64, "document")
        each = self._columns.rows_per_document or 1
        first, last = start // each, -(-stop // each)
        ids = np.array([d.id for d in self._columns.documents[first:last]], np.uint64)
        return ids[np.arange(start, stop) // each - first]

    def _count_positions(self, start: int, stop: int) -> NDArray[np.generic]:
        """Return the place of each row in its document's run of rows."""
        document = self._documents(start, stop)
        rows = np.arange(start, stop)
        is_first = np.concatenate([[True], document[1:] != document[:-1]])
        begins = np.maximum.accumulate(np.where(is_first, rows, 0))
        begins[begins == start] = self._run_start(start, document[0])
        return (rows - begins).astype(np.uint32)

    def _run_start(self, row: int, document: np.generic) -> int:
        """Return where the run of rows of one document begins that ``row`` belongs to."""
        while row > 0:
            low = max(0, row - _LOOK_BACK_ROWS)
            other = np.flatnonzero(self._documents(low, row) != document)
            if other.size:
                return low + int(other[-1]) + 1
            row = low
        return 0


def _text_bytes(document: Document) -> int:
    return len((document.text or "").encode()) + len(document.group)


def _open(source: ImportSource | None, name: str) -> RowsSource | None:
    return None if source is None else open_source(source, name)


def _check_note(recording: Recording, producer: str, note: Mapping[str, object], done: int) -> None:
    """Write down what a producer imports; raise Conflict where it began with other rows."""
    files: FileSystem = recording.files
    digest = hashlib.sha256(producer.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    path: Path = recording.directory / f"import-{digest}.json"
    with storage_errors(f"import into recording {recording.id!r} cannot begin"):
        if done == 0:
            files.write_atomic(path, signed_json.encode(note))
            return
        try:
            known = signed_json.decode(files.read_whole(path), path.name)
        except FileNotFoundError as error:
            raise Conflict(
                f"producer {producer!r} of recording {recording.id!r} has {done} batches that no "
                "import wrote: choose another producer name"
            ) from error
    differing = sorted(name for name in note if note[name] != known.get(name))
    if differing:
        raise Conflict(
            f"import {producer!r} into recording {recording.id!r} began with other "
            f"{', '.join(differing)}: give the same sources to go on, or another producer name"
        )
