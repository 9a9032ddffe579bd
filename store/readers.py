"""Pinned readers: the rows of a recording as they were at one revision, while writers go on."""

import itertools
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, NoSharedDocuments, ShapeError
from isogloss.store.batches import TokenColumns
from isogloss.store.documents import Document, DocumentTable
from isogloss.store.lane_files import LaneFiles
from isogloss.store.shuffling import ShuffleOrder
from isogloss.store.specs import RecordingSpec, Revision, Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffledBatch:
    """One step of shuffled reading."""

    step: int
    """Place in the epoch, from 0."""

    rows: NDArray[np.int64]
    """Which rows of the recording these are, ``[batch_rows]``."""

    sites: Mapping[str, Rows]
    """Activations by site, ``[batch_rows, width]``; row i belongs to ``rows[i]``."""


class RecordingReader:
    """Reads one revision of a recording; safe from several threads.

    Obtained from :meth:`Recording.reader`.
    """

    def __init__(self, spec: RecordingSpec, revision: Revision, lanes: Sequence[LaneFiles]) -> None:
        self.spec = spec
        """What is recorded."""
        self.revision = revision
        """What this reader is pinned to."""
        self._lanes = list(lanes)
        self._starts = [0, *itertools.accumulate(lane.rows for lane in lanes)]
        self._lock = threading.Lock()
        self._documents: dict[int, Document] | None = None
        self._by_document: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None

    @property
    def rows(self) -> int:
        """Rows of the revision."""
        return self._starts[-1]

    def read(self, site: str, start: int, stop: int) -> Rows:
        """Return rows ``[start, stop)`` of a site.

        Raises:
            NotFound: the recording has no such site.
            ShapeError: the rows are not all within the revision.
        """
        index = self.spec.site_index(site)
        self._check_range(start, stop)
        out = np.empty((stop - start, self.spec.sites[index].row_bytes), np.uint8)
        self._read_run(index, start, out)
        return out.view(self.spec.sites[index].numpy_dtype)

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.rows:
            raise ShapeError(f"rows [{start}, {stop}) must lie in [0, {self.rows})")

    def _read_run(self, site: int, row: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` with rows that follow one another, over the bounds of lanes."""
        done = 0
        while done < len(out):
            lane = bisect_right(self._starts, row + done) - 1
            take = min(len(out) - done, self._starts[lane + 1] - row - done)
            within = row + done - self._starts[lane]
            self._lanes[lane].read_into(site, within, out[done : done + take])
            done += take

    def take(self, site: str, rows: NDArray[np.int64]) -> Rows:
        """Return the given rows of a site, in the order given; repeats are fine.

        Fast where rows that follow one another on disk follow one another here.

        Args:
            site: name of the site.
            rows: int64 ``[n]``, each in ``[0, self.rows)``.

        Raises:
            NotFound: the recording has no such site.
            ShapeError: a row lies outside the revision.
        """
        index = self.spec.site_index(site)
        if rows.size and (rows.min() < 0 or rows.max() >= self.rows):
            raise ShapeError(f"rows from {rows.min()} to {rows.max()} must lie in [0, {self.rows})")
        out = np.empty((len(rows), self.spec.sites[index].row_bytes), np.uint8)
        breaks = (np.flatnonzero(np.diff(rows) != 1) + 1).tolist()
        bounds = [0, *breaks, len(rows)]
        for start, stop in itertools.pairwise(bounds):
            if stop > start:
                self._read_run(index, int(rows[start]), out[start:stop])
        return out.view(self.spec.sites[index].numpy_dtype)

    def tokens(self, start: int = 0, stop: int | None = None) -> TokenColumns:
        """Return the token columns of rows ``[start, stop)``; all rows by default."""
        stop = self.rows if stop is None else stop
        self._check_range(start, stop)
        parts: list[TokenColumns] = []
        for lane, (first, end) in zip(self._lanes, itertools.pairwise(self._starts), strict=True):
            low, high = max(start, first), min(stop, end)
            if low < high:
                parts.append(lane.columns(low - first, high - first))
        return TokenColumns.concatenate(parts, self.spec.has_spans)

    def documents(self) -> dict[int, Document]:
        """Return the documents of the lanes read, by id; equal ones once, with text if known."""
        with self._lock:
            if self._documents is None:
                found: dict[int, Document] = {}
                table = DocumentTable()
                for lane in self._lanes:
                    for document in lane.documents():
                        if table.add(document):
                            found[document.id] = document
                self._documents = found
            return dict(self._documents)

    def document_rows(self, document: int) -> NDArray[np.int64]:
        """Return the rows of a document, ascending; none when it has no row here."""
        with self._lock:
            if self._by_document is None:
                column = np.asarray(self.tokens().document, np.uint64)
                order = np.argsort(column, kind="stable").astype(np.int64)
                self._by_document = (column[order], order)
            column, order = self._by_document
        low, high = np.searchsorted(column, np.array([document], np.uint64), "left"), 0
        high = np.searchsorted(column, np.array([document], np.uint64), "right")
        return order[int(low[0]) : int(high[0])]

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
        window_rows: int = 16_384,
        keep: NDArray[np.bool_] | None = None,
        start_step: int = 0,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 1,
    ) -> Iterator[ShuffledBatch]:
        """Yield the batches of one epoch in shuffled order.

        The order is a pure function of (seed, epoch, step): reading resumed at ``start_step``
        gives the same remaining batches, whatever ``prefetch`` is. The last rows that fill no
        whole step are left out.

        Args:
            sites: names of the sites to read together.
            seed: of the order.
            epoch: each has its own order.
            batch_rows: rows of a batch of this rank.
            block_rows: rows that stay together on disk.
            window_rows: rows that are mixed with one another, and held in memory.
            keep: bool ``[rows]``, which rows to visit; all by default.
            start_step: the step to begin with.
            rank: which share of each step to read.
            world: into how many shares of ``batch_rows`` a step falls.
            prefetch: windows read ahead by a thread; 0 reads when asked.

        Raises:
            NotFound: the recording has no such site.
            InvalidInput: a size or the rank makes no sense.
            ShapeError: ``keep`` has another length than the revision.
        """
        for site in sites:
            self.spec.site_index(site)
        if start_step < 0 or prefetch < 0 or not sites:
            raise InvalidInput(
                f"start_step {start_step} and prefetch {prefetch} must be >= 0, and {len(sites)} "
                "sites at least one"
            )
        chosen = None if keep is None else np.flatnonzero(self._check_keep(keep)).astype(np.int64)
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
        return self._batches(order, tuple(dict.fromkeys(sites)), start_step, prefetch)

    def _batches(
        self, order: ShuffleOrder, sites: tuple[str, ...], start_step: int, prefetch: int
    ) -> Iterator[ShuffledBatch]:
        held_rows = np.empty(0, np.int64)
        held: dict[str, Rows] = {}
        step = start_step
        for rows, window in self._windows(order, sites, start_step, prefetch):
            held_rows = np.concatenate([held_rows, rows]) if len(held_rows) else rows
            held = {
                site: np.concatenate([held[site], window[site]]) if site in held else window[site]
                for site in sites
            }
            whole = len(held_rows) // order.batch_rows
            for batch in range(whole):
                part = slice(batch * order.batch_rows, (batch + 1) * order.batch_rows)
                yield ShuffledBatch(
                    step=step,
                    rows=held_rows[part],
                    sites={site: values[part] for site, values in held.items()},
                )
                step += 1
            held_rows = held_rows[whole * order.batch_rows :]
            held = {
                site: values[whole * order.batch_rows :]
                for site, values in held.items()
                if len(held_rows)
            }

    def _windows(
        self, order: ShuffleOrder, sites: tuple[str, ...], start_step: int, prefetch: int
    ) -> Iterator[tuple[NDArray[np.int64], dict[str, Rows]]]:
        wanted = self._wanted_rows(order, start_step)
        if prefetch == 0:
            for rows in wanted:
                yield rows, self._gather(sites, rows)
            return
        pending: list[tuple[NDArray[np.int64], Future[dict[str, Rows]]]] = []
        with ThreadPoolExecutor(1, thread_name_prefix="isogloss-prefetch") as executor:
            try:
                for rows in wanted:
                    pending.append((rows, executor.submit(self._gather, sites, rows)))
                    if len(pending) > prefetch:
                        ready, window = pending.pop(0)
                        yield ready, window.result()
                for ready, window in pending:
                    yield ready, window.result()
            finally:
                for _, window in pending:
                    window.cancel()

    @staticmethod
    def _wanted_rows(order: ShuffleOrder, start_step: int) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of each window that this rank reads."""
        step_rows = order.batch_rows * order.world
        first, end = start_step * step_rows, order.steps * step_rows
        if first >= end:
            return
        for place, rows in order.windows(first):
            if place >= end:
                return
            places = np.arange(place, place + len(rows))
            mine = (places >= first) & (places < end)
            if order.world > 1:
                mine &= places % step_rows // order.batch_rows == order.rank
            yield rows[mine]

    def _gather(self, sites: tuple[str, ...], rows: NDArray[np.int64]) -> dict[str, Rows]:
        """Read rows in the order of the disk and return them in the order given."""
        order = np.argsort(rows, kind="stable")
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        gathered: dict[str, Rows] = {}
        for site in sites:
            values = self.take(site, rows[order])
            whole_rows = values.view(f"V{values.shape[1] * values.dtype.itemsize}").reshape(-1)
            mixed = whole_rows[inverse].view(np.uint8).reshape(len(rows), -1)
            gathered[site] = mixed.view(values.dtype)
        return gathered


def shared_documents(readers: Mapping[str, RecordingReader]) -> tuple[int, ...]:
    """Return the ids of the documents that all recordings have rows of, ascending.

    Raises:
        DocumentMismatch: two recordings have different documents under one id.
        NoSharedDocuments: there is none.
        InvalidInput: no recording was given.
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
