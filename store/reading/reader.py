"""Read the rows of a recording as they were at one revision, while writers go on."""

import itertools
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, NoSharedDocuments, NotFound, ShapeError
from isogloss.store.disk.filesystem import for_each, storage_errors
from isogloss.store.lanes.files import LaneFiles
from isogloss.store.reading.buffers import RecycledMemory
from isogloss.store.reading.draws import weighed
from isogloss.store.reading.ranges import RangeBatch
from isogloss.store.reading.sampled import SampledReading
from isogloss.store.reading.sampling import Sampling
from isogloss.store.reading.shuffle_order import WINDOW_ROWS, ShuffleOrder
from isogloss.store.reading.shuffled import ShuffledBatch, ShuffledReading
from isogloss.store.reading.units import COLUMN_ROWS, Units
from isogloss.store.schema.batch import TokenColumns
from isogloss.store.schema.document import Document, DocumentTable
from isogloss.store.schema.known_documents import KnownDocuments
from isogloss.store.schema.recording_spec import RecordingSpec, Rows
from isogloss.store.schema.revision import Revision
from isogloss.store.schema.steps import StepInfo, check_step, check_steps
from isogloss.store.shards.mapped import Table, can_map, map_rows

Reopen: TypeAlias = Callable[[Revision], "RecordingReader"]
"""Opens a reader of a revision, in this process or in another one that it was sent to."""

_READ_THROUGH_ROWS = 8
"""Rows that are at most this far apart are read together, and those in between are dropped."""
_SHOWN_STEPS = 8
"""Training steps that an error names."""


class RecordingReader:
    """Reads one revision of a recording; safe from several threads.

    It may be pickled, as for a process that is spawned: there it opens the store by its path or
    address and reads the same revision.

    Returned by :meth:`Recording.reader`.
    """

    def __init__(
        self,
        spec: RecordingSpec,
        revision: Revision,
        lanes: Sequence[LaneFiles],
        retired: Sequence[LaneFiles] = (),
        reopen: Reopen | None = None,
    ) -> None:
        self.spec = spec
        """What is recorded."""
        self.revision = revision
        """What this reader is pinned to."""
        self.memory = RecycledMemory()
        """Memory that shuffled reading uses again, from epoch to epoch."""
        self._lanes = list(lanes)
        self._retired = list(retired)
        self._reopen = reopen
        self._starts = [0, *itertools.accumulate(lane.rows for lane in lanes)]
        self._lock = threading.Lock()
        self._documents: dict[int, Document] | None = None
        self._steps: tuple[StepInfo, ...] | None = None
        self._tables: dict[str, tuple[Table, NDArray[np.int64]] | None] = {}
        self._columns: dict[str, NDArray[np.generic]] = {}
        self._by_document: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None

    def __reduce__(self) -> tuple[Reopen, tuple[Revision]]:
        """Pickle where the rows are, and no open file: what is unpickled opens them anew.

        Raises:
            InvalidInput: the store's files cannot be opened by address.
        """
        if self._reopen is None:
            raise InvalidInput(
                f"a reader of recording {self.spec.recording!r} cannot be pickled: its store was "
                "opened with files of the caller's own; open it by its path or address"
            )
        return self._reopen, (self.revision,)

    @property
    def rows(self) -> int:
        """Number of rows of the revision."""
        return self._starts[-1]

    def read(self, site: str, start: int, stop: int) -> Rows:
        """Return the activations of rows ``[start, stop)`` at one site.

        Args:
            site: name of the site.
            start: number of the first row.
            stop: number of the row after the last.

        Returns:
            A new array ``[rows, width]`` in the site's dtype.

        Raises:
            NotFound: the recording has no such site.
            ShapeError: rows ``[start, stop)`` are not all in the revision.
        """
        index = self.spec.site_index(site)
        self._check_range(start, stop)
        out = np.empty((stop - start, self.spec.sites[index].row_bytes), np.uint8)
        with storage_errors(f"site {site!r} cannot be read"):
            self._read_run(index, start, out)
        return out.view(self.spec.sites[index].numpy_dtype)

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.rows:
            raise ShapeError(f"rows [{start}, {stop}) must lie in [0, {self.rows})")

    def _read_run(self, site: int, row: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` with consecutive rows, also where they are in several lanes."""
        done = 0
        while done < len(out):
            lane = bisect_right(self._starts, row + done) - 1
            take = min(len(out) - done, self._starts[lane + 1] - row - done)
            within = row + done - self._starts[lane]
            self._lanes[lane].read_into(site, within, out[done : done + take])
            done += take

    def take(self, site: str, rows: NDArray[np.int64]) -> Rows:
        """Return given rows of a site, in the order given; a row may be given twice.

        This is fast where consecutive entries of ``rows`` are consecutive rows on disk.

        Args:
            site: name of the site.
            rows: numbers of the rows, int64 ``[n]``, each in ``[0, self.rows)``.

        Returns:
            A new array ``[n, width]`` in the site's dtype.

        Raises:
            NotFound: the recording has no such site.
            ShapeError: a row is not in the revision.
        """
        spec = self.spec.sites[self.spec.site_index(site)]
        out = np.empty((len(rows), spec.row_bytes), np.uint8)
        self.take_into(site, rows, out)
        return out.view(spec.numpy_dtype)

    def take_into(self, site: str, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Fill ``out`` (``[n, row_bytes]``) with the given rows of a site; see :meth:`take`."""
        index = self.spec.site_index(site)
        if rows.size and (rows.min() < 0 or rows.max() >= self.rows):
            raise ShapeError(f"rows from {rows.min()} to {rows.max()} must lie in [0, {self.rows})")
        gaps = np.diff(rows)
        breaks = (np.flatnonzero((gaps < 1) | (gaps > _READ_THROUGH_ROWS)) + 1).tolist()
        with storage_errors(f"site {site!r} cannot be read"):
            runs = [
                (rows[start:stop], out[start:stop])
                for start, stop in itertools.pairwise([0, *breaks, len(rows)])
                if stop > start
            ]
            if self._lanes:
                for_each(self._lanes[0].files, lambda run: self._read_near(index, *run), runs)

    def _read_near(self, site: int, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Fill ``out`` with ascending rows that lie close together, by one read of all between."""
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 == len(rows):
            self._read_run(site, first, out)
            return
        between = np.empty((last - first + 1, out.shape[1]), np.uint8)
        self._read_run(site, first, between)
        np.take(between, rows - first, axis=0, out=out, mode="clip")

    def tokens(self, start: int = 0, stop: int | None = None) -> TokenColumns:
        """Return the token columns of rows ``[start, stop)``; of all rows by default."""
        stop = self.rows if stop is None else stop
        self._check_range(start, stop)
        parts: list[TokenColumns] = []
        for lane, (first, end) in zip(self._lanes, itertools.pairwise(self._starts), strict=True):
            low, high = max(start, first), min(stop, end)
            if low < high:
                with storage_errors(f"columns of lane {lane.name!r} cannot be read"):
                    parts.append(lane.columns(low - first, high - first))
        return TokenColumns.concatenate(parts, self.spec.has_spans)

    def documents(self, step: int | None = None) -> dict[int, Document]:
        """Return the documents that the revision's lanes describe, by id; with text where known.

        Args:
            step: only documents that are known at this training step; None: all.

        Returns:
            The documents.

        Raises:
            InvalidInput: ``step`` is no training step.
        """
        known = None if step is None else self.known_documents(step)
        with self._lock:
            if self._documents is None:
                found: dict[int, Document] = {}
                table = DocumentTable()
                with storage_errors("documents cannot be read"):
                    for document in itertools.chain(
                        *(lane.documents() for lane in [*self._retired, *self._lanes])
                    ):
                        if table.add_first(document):
                            found[document.id] = document
                self._documents = found
            described = self._documents.items()
            return {key: found for key, found in described if known is None or key in known}

    def known_documents(self, step: int = 0) -> dict[int, int]:
        """Return the documents that were recorded at a training step.

        Rows that were retired count, so that nothing is recorded again because of them.

        Args:
            step: the training step; 0 outside training.

        Returns:
            How many rows of each document were recorded at the step, by :attr:`Document.id`. 0 for
            a document whose rows an earlier release retired, which did not keep their number.

        Raises:
            InvalidInput: ``step`` is no training step.
        """
        wanted = check_step(step)
        with storage_errors("columns cannot be read"):
            retired = [lane.known_when_retired().at(wanted) for lane in self._retired]
            here = [lane.known_documents(wanted) for lane in self._lanes]
        return KnownDocuments.merge([*retired, *here]).by_document()

    def steps(self) -> tuple[StepInfo, ...]:
        """Return the training steps of which the revision has rows, ascending."""
        with self._lock:
            if self._steps is None:
                with storage_errors("columns cannot be read"):
                    known = [lane.known_documents() for lane in self._lanes]
                found = KnownDocuments.merge(known).steps()
                self._steps = self._with_repeated(found)
            return self._steps

    def _with_repeated(self, found: tuple[StepInfo, ...]) -> tuple[StepInfo, ...]:
        if not any(info.step for info in found):
            return found
        column = self.tokens().step[self.repeated_rows()]
        steps, counts = np.unique(column, return_counts=True)
        repeated = dict(zip(steps.tolist(), counts.tolist(), strict=True))
        return tuple(
            replace(info, repeated_rows=repeated.get(info.step, 0) if info.step else 0)
            for info in found
        )

    def repeated_rows(self) -> NDArray[np.bool_]:
        """Mark the rows that repeat an earlier one: its document, training step and position.

        Where two ranks read one document at once, both store it; ``~reader.repeated_rows()`` is a
        ``keep`` without the second copy.

        Returns:
            bool ``[rows]``.
        """
        tokens = self.tokens()
        order = np.lexsort((tokens.position, tokens.document, tokens.step))
        is_same = np.ones(max(len(order) - 1, 0), np.bool_)
        for column in (tokens.position, tokens.document, tokens.step):
            ordered = column[order]
            is_same &= ordered[1:] == ordered[:-1]
        found = np.zeros(self.rows, np.bool_)
        found[order[1:][is_same]] = True
        return found

    def keep_steps(self, steps: Iterable[int]) -> NDArray[np.bool_]:
        """Mark the rows that were recorded at one of some training steps.

        Args:
            steps: the steps, at least one.

        Returns:
            bool ``[rows]``, what :meth:`shuffled` takes as ``keep``.

        Raises:
            InvalidInput: there is no step, or one is no training step.
        """
        wanted = np.array(check_steps(steps), np.uint64)
        with storage_errors("columns cannot be read"):
            runs = [run for lane in self._lanes for run in lane.step_runs()]
        found = np.isin(np.array([step for step, _ in runs], np.uint64), wanted)
        return np.repeat(found, np.array([rows for _, rows in runs], np.int64))

    def rows_of_steps(self) -> dict[int, int]:
        """Return how many rows the revision has of each training step, ascending by step."""
        found: dict[int, int] = {}
        with storage_errors("columns cannot be read"):
            for step, rows in (run for lane in self._lanes for run in lane.step_runs()):
                found[step] = found.get(step, 0) + rows
        return dict(sorted(found.items()))

    def chosen_steps(self, steps: Iterable[int] | None) -> tuple[int, ...]:
        """Return the training steps whose rows are meant, where a caller may leave them out.

        Rows of several steps are rows of several models. They are read together only by wish.

        Args:
            steps: the steps, in any order; None: the one that the revision has.

        Returns:
            The steps, ascending, each once; empty for None where the revision has no rows.

        Raises:
            InvalidInput: ``steps`` is None and the revision has rows of several steps; or one is
                no training step, or has no rows.
        """
        found = self.rows_of_steps()
        if steps is None:
            if len(found) > 1:
                raise InvalidInput(
                    f"recording {self.spec.recording!r} has rows of {len(found)} training steps "
                    f"({_some(found)}), which are of different weights: say which to read, such as "
                    f"steps=[{max(found)}] (--steps {max(found)} on the command line)"
                )
            return tuple(found)
        wanted = tuple(sorted(set(check_steps(steps))))
        if lacking := [step for step in wanted if step not in found]:
            raise InvalidInput(
                f"recording {self.spec.recording!r} has no rows of training step "
                f"{', '.join(map(str, lacking))}; it has {_some(found) or 'no rows'}: choose among "
                "these"
            )
        return wanted

    def document_rows(self, document: int, step: int | None = None) -> NDArray[np.int64]:
        """Return the numbers of a document's rows, ascending; empty where it has none here.

        Args:
            document: the document's id.
            step: only rows of this training step; None: of all.

        Returns:
            int64 ``[n]``.

        Raises:
            InvalidInput: ``step`` is no training step.
        """
        with self._lock:
            if self._by_document is None:
                column = np.asarray(self.tokens().document, np.uint64)
                order = np.argsort(column, kind="stable").astype(np.int64)
                self._by_document = (column[order], order)
            column, order = self._by_document
        low, high = np.searchsorted(column, np.array([document], np.uint64), "left"), 0
        high = np.searchsorted(column, np.array([document], np.uint64), "right")
        rows = order[int(low[0]) : int(high[0])]
        return rows if step is None else rows[self.keep_steps([step])[rows]]

    def steps_per_epoch(
        self, batch_rows: int, keep: NDArray[np.bool_] | None = None, world: int = 1
    ) -> int:
        """Return how many steps :meth:`shuffled` yields for the same arguments."""
        count = self.rows if keep is None else int(self._check_keep(keep).sum())
        return ShuffleOrder(
            rows=None, count=count, seed=0, epoch=0, batch_rows=batch_rows, world=world
        ).steps

    def _check_keep(self, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if keep.shape != (self.rows,):
            raise ShapeError(f"keep is {list(keep.shape)}, wanted [{self.rows}]")
        return keep

    def shuffled(
        self,
        sites: Sequence[str],
        *,
        seed: int,
        epoch: int,
        batch_rows: int,
        block_rows: int = 32,
        window_rows: int = WINDOW_ROWS,
        keep: NDArray[np.bool_] | None = None,
        start_step: int = 0,
        every: int = 1,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 1,
        mapped: bool = True,
    ) -> Iterator[ShuffledBatch]:
        """Yield the batches of one epoch in shuffled order.

        The order depends on seed, epoch and step alone: reading from ``start_step`` on gives the
        same remaining batches. The last rows, if they fill no whole step, are left out.

        Args:
            sites: names of the sites to read together.
            seed: seed of the order.
            epoch: number of the epoch; each has another order.
            batch_rows: rows of a batch of this rank.
            block_rows: rows that stay together on disk.
            window_rows: rows that are mixed with one another. Where files are not mapped, so many
                are held in memory, and so many again for each ``prefetch``.
            keep: bool ``[rows]``, the rows to visit; all by default.
            start_step: the step to begin with.
            every: yield each so many-th step only, as one of several workers does.
            rank: number of the share of each step to read, from 0.
            world: number of shares, each of ``batch_rows`` rows, of a step.
            prefetch: how many batches (windows where not mapped) a thread reads ahead; may be 0.
            mapped: map files where possible: faster, but an I/O error then ends in SIGBUS.

        Returns:
            The batches, in the order of their steps.

        Raises:
            NotFound: the recording has no such site.
            InvalidInput: a size or the rank is out of range.
            ShapeError: ``keep`` has another length than the revision.
        """
        chosen = None if keep is None else self._kept_rows(keep)
        order = ShuffleOrder(
            rows=chosen,
            count=self.rows if chosen is None else len(chosen),
            seed=seed,
            epoch=epoch,
            batch_rows=batch_rows,
            block_rows=block_rows,
            window_rows=window_rows,
            rank=rank,
            world=world,
        )
        reading = ShuffledReading(self, order, sites, start_step, every)
        return reading.batches(prefetch, mapped=mapped)

    def _kept_rows(self, keep: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.flatnonzero(self._check_keep(keep)).astype(np.int64)

    def sampled(
        self, sampling: Sampling, *, keep: NDArray[np.bool_] | None = None
    ) -> SampledReading:
        """Find the units of structured sampling: windows, pairs, strata, weights.

        The token columns are looked through once, in pieces. Memory is some 24 bytes a document,
        and 8 bytes a unit where there are strata or weights.

        Args:
            sampling: what a unit is and how often it is drawn.
            keep: bool ``[rows]``; a unit has only such rows, from its first to its last. All by
                default.

        Returns:
            What reads the units of an epoch in shuffled order.

        Raises:
            InvalidInput: a weight cannot be used, or a stratum with a share has no unit.
            ShapeError: ``keep`` or the weights have another length than the revision.
        """
        kept = None if keep is None else self._check_keep(keep)
        units = Units.find(self._column_pieces(), sampling, kept)
        drawn = None
        if sampling.is_weighted:
            drawn = weighed(units, sampling, self.tokens, self._groups, self.rows)
        return SampledReading(self, sampling, units, drawn)

    def _column_pieces(self) -> Iterator[TokenColumns]:
        for start in range(0, self.rows, COLUMN_ROWS):
            yield self.tokens(start, min(start + COLUMN_ROWS, self.rows))

    def _groups(self) -> dict[int, str]:
        return {key: document.group for key, document in self.documents().items()}

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the token columns that the recording has."""
        names = [found.name for found in fields(TokenColumns)]
        return tuple(name for name in names if name != "span" or self.spec.has_spans)

    def check_column(self, name: str) -> None:
        """Raise NotFound where the recording has no token column of that name."""
        if name not in self.column_names:
            raise NotFound(
                f"recording {self.spec.recording!r} has no token column {name!r}; it has "
                f"{list(self.column_names)}"
            )

    def column(self, name: str) -> NDArray[np.generic]:
        """Return one token column of all rows, which this reader keeps in memory from then on.

        Args:
            name: ``token_id`` or ``position`` (4 bytes a row), ``document`` or ``span`` (8).

        Returns:
            ``[rows]``, or ``[rows, 2]`` for spans; read-only.

        Raises:
            NotFound: the recording has no such column.
        """
        self.check_column(name)
        with self._lock:
            if name not in self._columns:
                empty = TokenColumns.concatenate([], self.spec.has_spans)
                pieces = [getattr(piece, name) for piece in self._column_pieces()]
                found = np.concatenate([getattr(empty, name), *pieces])
                found.flags.writeable = False
                self._columns[name] = found
            return self._columns[name]

    def batches(
        self,
        sites: Sequence[str],
        *,
        batch_rows: int = 4096,
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[RangeBatch]:
        """Yield rows ``[start, stop)`` in the order of the recording, with their tokens.

        Args:
            sites: names of the sites to read together.
            batch_rows: rows of a batch; the last may have fewer.
            start: number of the first row.
            stop: number of the row after the last; None: to the end.

        Returns:
            An iterator over the batches, of numpy arrays.

        Raises:
            NotFound: the recording has no such site.
            InvalidInput: ``batch_rows`` is below 1.
            ShapeError: rows ``[start, stop)`` are not all in the revision.
        """
        end = self.rows if stop is None else stop
        self._check_range(start, end)
        for site in sites:
            self.spec.site_index(site)
        if batch_rows < 1:
            raise InvalidInput(f"batch_rows {batch_rows} must be at least 1")
        bounds = itertools.pairwise([*range(start, end, batch_rows), end])
        return (
            RangeBatch(
                start=first,
                sites={site: self.read(site, first, last) for site in sites},
                tokens=self.tokens(first, last),
            )
            for first, last in bounds
        )

    def table(self, site: str) -> tuple[Table, NDArray[np.int64]] | None:
        """Return all rows of a site mapped into memory, or None where they cannot be.

        Args:
            site: name of the site.

        Returns:
            The table, and for each lane by how many rows its rows in the table stand behind their
            numbers in the revision; None where the rows are not plain files on page bounds.

        Raises:
            StorageError: a shard is missing or too short.
        """
        index = self.spec.site_index(site)
        with self._lock:
            if site not in self._tables:
                self._tables[site] = self._map(index)
            return self._tables[site]

    def _map(self, site: int) -> tuple[Table, NDArray[np.int64]] | None:
        row_bytes = self.spec.sites[site].row_bytes
        if not all(lane.can_map(site) for lane in self._lanes):
            for lane in self._lanes:
                lane.map_compressed()
            return None
        with storage_errors(f"site {self.spec.sites[site].name!r} cannot be mapped"):
            by_lane = [lane.map_runs(site) for lane in self._lanes]
            runs = [run for lane in by_lane for run in lane]
            if not can_map(runs):
                return None
            virtual = [0, *itertools.accumulate(sum(r.room for r in lane) for lane in by_lane)]
            shifts = [
                place // row_bytes - start
                for place, start in zip(virtual, self._starts, strict=True)
            ]
            return map_rows(runs, row_bytes), np.array(shifts[:-1], np.int64)

    def lane_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each row the number, from 0, of the lane of the revision that holds it."""
        return np.searchsorted(np.array(self._starts[1:]), rows, "right").astype(np.int64)


def _some(rows: Mapping[int, int]) -> str:
    """Write the first and the last of some steps with their rows."""
    texts = [f"{step}: {count:,} rows" for step, count in rows.items()]
    if len(texts) > _SHOWN_STEPS:
        texts = [*texts[: _SHOWN_STEPS - 1], "...", texts[-1]]
    return ", ".join(texts)


def shared_documents(readers: Mapping[str, RecordingReader]) -> tuple[int, ...]:
    """Return the ids of the documents that all recordings have rows of, ascending.

    Args:
        readers: readers of the recordings, by name.

    Returns:
        The ids.

    Raises:
        DocumentMismatch: two recordings have different documents under one id.
        NoSharedDocuments: no document has rows in all recordings.
        InvalidInput: ``readers`` is empty.
    """
    if not readers:
        raise InvalidInput("no recordings were given: name at least one")
    table = DocumentTable()
    shared: set[int] | None = None
    for reader in readers.values():
        for document in reader.documents().values():
            table.add(document)
        here = set(np.unique(reader.tokens().document).tolist())
        shared = here if shared is None else shared & here
    if not shared:
        raise NoSharedDocuments(
            f"recordings {sorted(readers)} have no document in common: record them over one corpus"
        )
    return tuple(sorted(shared))
