"""Read one lane: rows from its shards, columns and documents from their files or from the log."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, NotFound
from isogloss.store.disk.filesystem import FileSystem, OpenFile
from isogloss.store.formats.documents import read_documents, read_known
from isogloss.store.formats.zarr_arrays import ArrayFile, read_attributes
from isogloss.store.lanes.lane_directory import (
    COLUMNS_NAME,
    DOCUMENTS_NAME,
    KNOWN_NAME,
    LOG_NAME,
    STEP_ENDS_NAME,
    STEP_NAME,
    lane_names,
)
from isogloss.store.lanes.log_frames import CommitFrame, read_frames, read_payload_json
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.lanes.seal import LanePart, read_seal
from isogloss.store.schema.batch import TokenColumns
from isogloss.store.schema.document import Document
from isogloss.store.schema.known_documents import KnownDocuments
from isogloss.store.schema.recording_spec import RecordingSpec, Rows
from isogloss.store.schema.steps import StepRun, StepRuns, step_column, step_runs
from isogloss.store.shards.compressed import CompressedShard, compressed_layout
from isogloss.store.shards.layout import compressed_directory, shard_key, site_directory
from isogloss.store.shards.mapped import MappedRun
from isogloss.store.shards.quantised import QuantisedRows, quantised_directory

_Shard: TypeAlias = OpenFile | CompressedShard | QuantisedRows

_MAX_OPEN = 128
_T = TypeVar("_T")


class LaneFiles:
    """Reads consecutive rows of one lane; safe from several threads.

    When the lane was joined into another one meanwhile, the rows are read from that one.

    Args:
        files: the file system that the lane is on.
        directory: the lane's directory.
        spec: the recording's specification.
        rows: number of rows.
        first: the row of the lane that counts as row 0 here.
        documents: positions ``[start, stop)`` of the documents among the lane's; all by default.
    """

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        spec: RecordingSpec,
        rows: int,
        *,
        first: int = 0,
        documents: tuple[int, int] | None = None,
    ) -> None:
        self._files = files
        self._directory = directory
        self.spec = spec
        self.rows = rows
        self._first = first
        self._document_range = documents
        self._successor: LaneFiles | None = None
        self._header: LaneHeader | None = None
        self._open: OrderedDict[tuple[int, int], _Shard] = OrderedDict()
        self._maps_compressed = False
        self._lock = threading.Lock()
        self._from_log: tuple[TokenColumns, list[Document]] | None = None
        self._arrays: dict[str, ArrayFile] | None = None
        self._steps: StepRuns | None = None

    @property
    def name(self) -> str:
        """Name of the lane."""
        return self._directory.name

    @property
    def directory(self) -> Path:
        """The directory of the files that hold the rows now."""
        return self._directory

    @property
    def files(self) -> FileSystem:
        """By what they are read."""
        return self._files

    @property
    def first(self) -> int:
        """The row of the lane that counts as row 0 here."""
        return self._first

    def can_map(self, site: int) -> bool:
        """Whether the shards of a site can be mapped into memory."""
        is_plain = not self.is_compressed(site) and not self.is_quantised(site)
        return self._files.can_map and is_plain

    @property
    def header(self) -> LaneHeader:
        """Frame 0 of the lane."""
        if self._header is None:
            self._header = read_header(self._files, self._directory)
        return self._header

    def read_into(self, site: int, row: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` (uint8 ``[rows, row_bytes]``) with the rows of a site from ``row`` on.

        Args:
            site: index of the site.
            row: the first, counted from the first row of this reader.
            out: filled whole.

        Raises:
            CorruptData: a shard is missing or too short.
            NotFound: the rows were retired, or the recording was deleted.
        """
        self._follow(
            lambda: self._read_own(site, self._first + row, out),
            lambda lane: lane.read_into(site, row, out),
        )

    def _follow(self, own: Callable[[], _T], there: Callable[["LaneFiles"], _T]) -> _T:
        """Do ``own`` with this lane's files, or ``there`` with the lane that it was joined into."""
        try:
            return own() if self._successor is None else there(self._successor)
        except (CorruptData, NotFound, FileNotFoundError):
            # a successor may be gone too: a crash can leave two joined lanes with the same rows
            self._successor = self._find_successor()
            if self._successor is None:
                raise
            return there(self._successor)

    def _find_successor(self) -> "LaneFiles | None":
        """Find the lane that holds these rows now.

        Returns:
            A reader of them there; None when they are still in this lane.

        Raises:
            NotFound: the rows were retired, or the recording was deleted.
        """
        lanes = self._directory.parent
        for name in lane_names(self._files, lanes):
            seal = None
            with contextlib.suppress(CorruptData, InvalidInput):  # a seal that verify reports
                seal = read_seal(self._files, lanes / name)
            part = None if seal is None else seal.part(self.name)
            if seal is not None and (part is not None or name == self.name):
                if seal.reason == "retired":
                    raise NotFound(
                        f"the rows of lane {self.name!r} were retired to make room: take a new "
                        "revision"
                    )
                if part is not None:
                    return part_files(self._files, lanes / name, self.spec, part, self)
        if not self._files.exists(self._directory):
            raise NotFound(
                f"lane {self.name!r} is gone: recording {self.spec.recording!r} was deleted while "
                "it was read"
            )
        return None

    def _read_own(self, site: int, row: int, out: NDArray[np.uint8]) -> None:
        layout = self.header.layouts[site]
        done = 0
        while done < len(out):
            shard, offset = layout.row_offset(row + done)
            within = (row + done) % layout.shard_rows
            take = min(len(out) - done, layout.shard_rows - within)
            file = self._shard(site, shard)
            part = out[done : done + take]
            if isinstance(file, OpenFile):
                self._files.read_into(file.descriptor, part.reshape(-1), offset)
            else:
                file.read_into(within, part)
            done += take

    def is_compressed(self, site: int) -> bool:
        """Whether the rows of a site were compressed."""
        return self._files.exists(self._directory / compressed_directory(site) / "zarr.json")

    def is_quantised(self, site: int) -> bool:
        """Whether the rows of a site were rounded to 8 bits; these are then what is read."""
        return self._files.exists(self._directory / quantised_directory(site) / "zarr.json")

    def _open_shard(self, site: int, shard: int) -> _Shard:
        if self.is_quantised(site):
            return self._open_quantised(site, shard)
        if not self.is_compressed(site):
            try:
                return OpenFile(self._files, self._shard_path(site, shard))
            except FileNotFoundError:
                if self.is_quantised(site):  # rounded since it was looked for
                    return self._open_quantised(site, shard)
                if not self.is_compressed(site):  # or compressed
                    raise
        path = self._directory / compressed_directory(site) / shard_key(shard)
        layout = compressed_layout(self.header.layouts[site])
        return CompressedShard(self._files, path, layout, is_mapped=self._maps_compressed)

    def _open_quantised(self, site: int, shard: int) -> QuantisedRows:
        first = shard * self.header.layouts[site].shard_rows
        rows = self._first + self.rows
        spec = self.spec.sites[site]
        return QuantisedRows(self._files, self._directory, site, spec, rows, first)

    def _shard(self, site: int, shard: int) -> _Shard:
        key = (site, shard)
        with self._lock:
            file = self._open.get(key)
            if file is None:
                try:
                    file = self._open_shard(site, shard)
                except FileNotFoundError as error:
                    raise CorruptData(
                        f"shard {shard} of site {self.spec.sites[site].name!r} is missing from "
                        f"lane {self.name!r}: run verify"
                    ) from error
                self._open[key] = file
                if len(self._open) > _MAX_OPEN:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(key)
            return file

    def map_compressed(self) -> None:
        """Read compressed rows through memory maps from now on, where files can be mapped."""
        with self._lock:
            if not self._maps_compressed and self._files.can_map:
                self._maps_compressed = True
                self._open.clear()

    def map_runs(self, site: int) -> list[MappedRun]:
        """Return the shards of a site, open, for :func:`map_rows`."""
        return self._follow(lambda: self._own_runs(site), lambda lane: lane.map_runs(site))

    def _own_runs(self, site: int) -> list[MappedRun]:
        layout = self.header.layouts[site]
        runs: list[MappedRun] = []
        row, stop = self._first, self._first + self.rows
        while row < stop:
            shard, offset = layout.row_offset(row)
            room = layout.shard_rows - row % layout.shard_rows
            length = min(room, stop - row) * layout.row_bytes
            file = OpenFile(self._files, self._shard_path(site, shard))
            if self._files.size(file.descriptor) < offset + length:
                raise CorruptData(f"shard {shard} of lane {self.name!r} is too short: run verify")
            runs.append(
                MappedRun(file=file, offset=offset, length=length, room=room * layout.row_bytes)
            )
            row += room
        return runs

    def _shard_path(self, site: int, shard: int) -> Path:
        return self._directory / site_directory(site) / shard_key(shard)

    def blocks(self, site: int, block_rows: int) -> Iterator[Rows]:
        """Yield all rows of a site in blocks."""
        spec = self.spec.sites[site]
        for start in range(0, self.rows, block_rows):
            count = min(block_rows, self.rows - start)
            flat = np.empty((count, spec.row_bytes), np.uint8)
            self.read_into(site, start, flat)
            yield flat.view(spec.numpy_dtype)

    def columns(self, start: int, stop: int) -> TokenColumns:
        """Return the token columns of rows ``[start, stop)``."""
        first = self._first
        return self._follow(
            lambda: self._own_columns(first + start, first + stop),
            lambda lane: lane.columns(start, stop),
        )

    def _own_columns(self, start: int, stop: int) -> TokenColumns:
        arrays = self._column_files()
        if arrays is None or self._steps is None:
            return self._read_log()[0].slice(start, stop)
        return TokenColumns(
            token_id=arrays["token_id"].read(start, stop),
            document=arrays["document"].read(start, stop),
            position=arrays["position"].read(start, stop),
            span=arrays["span"].read(start, stop) if self.spec.has_spans else None,
            step=step_column(self._steps.slice(start, stop)),
        )

    def step_runs(self) -> list[StepRun]:
        """Return the steps of all rows, as runs of rows that have one; cheap once derived."""
        return self._follow(self._own_step_runs, lambda lane: lane.step_runs())

    def _own_step_runs(self) -> list[StepRun]:
        start, stop = self._first, self._first + self.rows
        if self._column_files() is not None and self._steps is not None:
            return self._steps.slice(start, stop)
        return step_runs(self._own_columns(start, stop).step)

    def known_documents(self, step: int | None = None) -> KnownDocuments:
        """Return which documents have rows here, at which step.

        Args:
            step: only rows of this step, without reading the columns of others; None: all rows.

        Returns:
            The pairs of document and step.
        """
        parts: list[KnownDocuments] = []
        start = 0
        for found, rows in [(step, self.rows)] if step is None else self.step_runs():
            if found == step:
                columns = self.columns(start, start + rows)
                parts.append(KnownDocuments.of_columns(columns.document, columns.step))
            start += rows
        return KnownDocuments.merge(parts)

    def known_when_retired(self) -> KnownDocuments:
        """Return which documents had rows here before these were retired.

        Where that was not written down, as by earlier releases, the documents that the lane
        describes, at step 0, with no rows.
        """
        with contextlib.suppress(NotFound):
            return read_known(self._files, self._directory / KNOWN_NAME)
        ids = np.array([document.id for document in self.documents()], np.uint64)
        return KnownDocuments.count(ids, np.zeros_like(ids), np.zeros(len(ids), np.int64))

    def _column_files(self) -> dict[str, ArrayFile] | None:
        """Return the files of the token columns; None while they were not derived."""
        if self._arrays is None:
            directory = self._directory / COLUMNS_NAME
            if not self._files.exists(directory):
                return None
            names = ["token_id", "document", "position"] + ["span"] * self.spec.has_spans
            arrays = {name: ArrayFile(self._files, directory / name) for name in names}
            wanted = self._first + self.rows
            short = [name for name, array in arrays.items() if array.rows < wanted]
            if short:
                raise CorruptData(
                    f"columns {short} of lane {self.name!r} have fewer than {wanted} rows"
                )
            rows = arrays["token_id"].rows
            self._steps = StepRuns(read_step_runs(self._files, directory, rows))
            self._arrays = arrays
        return self._arrays

    def documents(self) -> list[Document]:
        """Return the documents described in the lane, in the order they came."""
        return self._follow(self._own_documents, lambda lane: lane.documents())

    def _own_documents(self) -> list[Document]:
        directory = self._directory / DOCUMENTS_NAME
        if self._files.exists(directory):
            found = read_documents(self._files, directory)
        else:
            found = self._read_log()[1]
        return found if self._document_range is None else found[slice(*self._document_range)]

    def _read_log(self) -> tuple[TokenColumns, list[Document]]:
        with self._lock:
            if self._from_log is None:
                rows = self._first + self.rows
                commits = list(read_commits(self._files, self._directory, rows))
                columns = TokenColumns.concatenate(
                    [commit.columns for commit in commits], self.spec.has_spans
                )
                check_proven(self._directory, min(columns.rows, rows), rows)
                documents = [document for commit in commits for document in commit.documents]
                self._from_log = (columns, documents)
            return self._from_log


def read_step_runs(files: FileSystem, directory: Path, rows: int) -> list[StepRun]:
    """Return the steps of a lane's rows from its columns.

    Args:
        files: the file system that the lane is on.
        directory: of its columns.
        rows: rows of the columns.

    Returns:
        The runs; one of step 0 where the columns hold no steps.

    Raises:
        CorruptData: the steps are missing, damaged or not of so many rows.
    """
    if "step_runs" not in read_attributes(files, directory):
        return [(0, rows)] if rows else []
    try:
        steps = ArrayFile(files, directory / STEP_NAME).read().tolist()
        ends = [int(end) for end in ArrayFile(files, directory / STEP_ENDS_NAME).read().tolist()]
    except NotFound as error:
        raise CorruptData(f"columns lost their steps: {error}; run verify") from error
    if len(steps) != len(ends) or ends != sorted(ends) or ends[-1:] != [rows]:
        raise CorruptData(f"{len(steps)} steps that end at {ends[-3:]} do not fit {rows} rows")
    starts = [0, *ends]
    return [(int(s), e - b) for s, b, e in zip(steps, starts, ends, strict=False)]


def part_files(
    files: FileSystem, directory: Path, spec: RecordingSpec, part: LanePart, old: LaneFiles
) -> LaneFiles:
    """Return a reader of the rows of ``old`` in the lane that it was joined into."""
    return LaneFiles(
        files,
        directory,
        spec,
        old.rows,
        first=part.first_row + old.first,
        documents=(part.first_document, part.first_document + part.documents),
    )


def read_header(files: FileSystem, directory: Path) -> LaneHeader:
    """Return frame 0 of a lane's log; CorruptData when it cannot be read."""
    try:
        log = files.open(directory / LOG_NAME)
    except FileNotFoundError as error:
        raise NotFound(f"no lane at {directory}: it was deleted") from error
    try:
        for frame in read_frames(files, log):
            return LaneHeader.from_dict(read_payload_json(frame.payload)[0])
    finally:
        files.close(log)
    raise CorruptData(f"the log of lane {directory.name!r} has no sound frame 0")


def read_commits(files: FileSystem, directory: Path, rows: int) -> Iterator[CommitFrame]:
    """Yield the commits of a lane until ``rows`` rows are covered, or the log ends."""
    try:
        log = files.open(directory / LOG_NAME)
    except FileNotFoundError as error:
        raise NotFound(f"no lane at {directory}: it was deleted") from error
    try:
        covered = 0
        for frame in read_frames(files, log):
            if frame.number == 0:
                continue
            if covered >= rows:
                return
            commit = CommitFrame.from_payload(frame.payload)
            covered += commit.rows
            yield commit
    finally:
        files.close(log)


def check_proven(directory: Path, proven: int, rows: int) -> None:
    """Raise CorruptData when a lane's log holds another number of rows than the lane should.

    Args:
        directory: the lane's directory.
        proven: rows that are committed in the lane's log.
        rows: rows that the lane should have.

    Raises:
        CorruptData: the two numbers differ.
    """
    if proven != rows:
        raise CorruptData(
            f"the log of lane {directory.name!r} proves {proven} rows, wanted {rows}: run verify"
        )
