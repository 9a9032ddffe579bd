"""Shuffled reading: the rows of each step, gathered and read ahead."""

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from isogloss.store.mapping import Table
from isogloss.store.shuffling import ShuffleOrder
from isogloss.store.specs import RecordingSpec, Rows

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Window: TypeAlias = list[tuple[NDArray[np.int64], dict[str, Table]]]
"""The rows of each step and room for them, by site."""

_READERS = min(4, os.cpu_count() or 1)
"""Threads that read and decompress the parts of a window; all they do releases the lock of
Python's interpreter."""
_PART_ROWS = 1024
"""Rows that one of them reads at a time: about what a processor's cache holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffledBatch:
    """One step of shuffled reading."""

    step: int
    """Place in the epoch, from 0."""

    rows: NDArray[np.int64]
    """Which rows of the recording these are, ``[batch_rows]``."""

    sites: Mapping[str, Rows]
    """Activations by site, ``[batch_rows, width]``; row i belongs to ``rows[i]``."""


@runtime_checkable
class RowSource(Protocol):
    """What shuffled reading asks of a reader."""

    spec: RecordingSpec

    def take_into(self, site: str, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Fill ``out`` (``[n, row_bytes]``) with rows of a site in the order given."""
        ...

    def table(self, site: str) -> tuple[Table, NDArray[np.int64]] | None:
        """Return the mapped rows of a site and the shift of each lane, or None."""
        ...

    def lane_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which lane holds each row."""
        ...


class ShuffledReading:
    """One pass over an epoch, from one of its steps on."""

    def __init__(
        self, source: RowSource, order: ShuffleOrder, sites: tuple[str, ...], start_step: int
    ) -> None:
        self._source = source
        self._order = order
        self._sites = sites
        self._start_step = start_step

    def batches(self, prefetch: int, *, mapped: bool) -> Iterator[ShuffledBatch]:
        """Yield the batches, reading so far ahead."""
        tables = self._tables() if mapped else None
        if tables is not None:
            return self._mapped_batches(tables, prefetch)
        return self._window_batches(prefetch)

    def _tables(self) -> dict[str, tuple[Table, NDArray[np.int64]]] | None:
        tables: dict[str, tuple[Table, NDArray[np.int64]]] = {}
        for site in self._sites:
            table = self._source.table(site)
            if table is None:
                _log.info("site %r is not mapped: its rows are read window by window", site)
                return None
            tables[site] = table
        return tables

    def _mapped_batches(
        self, tables: Mapping[str, tuple[Table, NDArray[np.int64]]], prefetch: int
    ) -> Iterator[ShuffledBatch]:
        steps = self._order.step_rows(self._start_step)
        units = ((rows, self._empty(len(rows))) for rows in steps)
        ready = _ahead(units, lambda unit: self._gather_mapped(tables, *unit), prefetch)
        for step, (rows, out) in enumerate(ready, self._start_step):
            sites = {site: self._as_rows(site, table) for site, table in out.items()}
            yield ShuffledBatch(step=step, rows=rows, sites=sites)

    def _window_batches(self, prefetch: int) -> Iterator[ShuffledBatch]:
        step = self._start_step
        with ThreadPoolExecutor(_READERS, thread_name_prefix="isogloss-read") as readers:
            reader = _WindowReader(self._source, readers)
            for window in _ahead(self._windows(), reader.read, prefetch):
                for rows, out in window:
                    sites = {site: self._as_rows(site, table) for site, table in out.items()}
                    yield ShuffledBatch(step=step, rows=rows, sites=sites)
                    step += 1

    def _windows(self) -> Iterator[_Window]:
        """Yield room for the rows of whole steps, about a window at a time: read together."""
        steps = max(1, -(-self._order.window_rows // self._order.batch_rows))
        ahead = self._order.step_rows(self._start_step)
        while held := [(rows, self._empty(len(rows))) for rows in itertools.islice(ahead, steps)]:
            yield held

    def _gather_mapped(
        self,
        tables: Mapping[str, tuple[Table, NDArray[np.int64]]],
        rows: NDArray[np.int64],
        out: Mapping[str, Table],
    ) -> None:
        lanes: NDArray[np.int64] | None = None
        for site, (table, shifts) in tables.items():
            places = rows
            if len(shifts) > 1:
                lanes = self._source.lane_of(rows) if lanes is None else lanes
                places = rows + shifts[lanes]
            # all rows are in range: "raise" would check them into a buffer first, 1.3 times slower
            np.take(table, places, out=out[site], mode="clip")

    def _empty(self, rows: int) -> dict[str, Table]:
        """Return room for rows, made by the caller's thread.

        Memory that other threads allocate comes fresh from the system: 0.12 ms a batch of 3 MiB.
        """
        specs = [self._source.spec.sites[self._source.spec.site_index(s)] for s in self._sites]
        return {spec.name: np.empty(rows, np.dtype(f"V{spec.row_bytes}")) for spec in specs}

    def _as_rows(self, site: str, opaque: Table) -> Rows:
        spec = self._source.spec.sites[self._source.spec.site_index(site)]
        return opaque.view(spec.numpy_dtype).reshape(len(opaque), spec.width)


class _WindowReader:
    """Reads windows of steps: each part of the disk once, in order, then each batch put together.

    What it reads to is kept: fresh memory for each window cost a third of the time of reading.
    """

    def __init__(self, source: RowSource, readers: Executor) -> None:
        self._source = source
        self._readers = readers
        self._kept = np.empty(0, np.uint8)

    def read(self, window: _Window) -> None:
        """Fill the batches of a window."""
        rows = np.concatenate([rows for rows, _ in window])
        places = np.argsort(rows)
        ordered = rows[places]
        inverse = np.empty_like(places)
        inverse[places] = np.arange(len(places))
        bounds = list(itertools.pairwise(_part_bounds(ordered)))
        for site, first in window[0][1].items():
            table = self._room(len(rows), first.dtype)
            found = table.view(np.uint8).reshape(len(rows), -1)
            self._run(
                [partial(self._source.take_into, site, ordered[i:j], found[i:j]) for i, j in bounds]
            )
            ends = np.cumsum([len(rows) for rows, _ in window])
            self._run(
                [
                    partial(np.take, table, inverse[end - len(rows) : end], 0, out[site], "clip")
                    for (rows, out), end in zip(window, ends.tolist(), strict=True)
                ]
            )

    def _room(self, rows: int, dtype: np.dtype[np.generic]) -> Table:
        length = rows * dtype.itemsize
        if len(self._kept) < length:
            self._kept = np.empty(length, np.uint8)
        return self._kept[:length].view(dtype)

    def _run(self, calls: list[Callable[[], object]]) -> None:
        """Make calls side by side; raise what the first to fail raised, once all have ended."""
        running = [self._readers.submit(call) for call in calls]
        wait(running)
        for call in running:
            call.result()


def _part_bounds(ordered: NDArray[np.int64]) -> list[int]:
    """Return where to cut ascending rows: never between two that follow one another."""
    breaks = np.flatnonzero(np.diff(ordered) != 1) + 1
    wanted = np.arange(_PART_ROWS, len(ordered), _PART_ROWS)
    near = breaks[np.searchsorted(breaks, wanted).clip(max=len(breaks) - 1)] if len(breaks) else []
    return sorted({0, *(int(bound) for bound in near), len(ordered)})


def _ahead(units: Iterator[_T], fill: Callable[[_T], None], depth: int) -> Iterator[_T]:
    """Yield each unit once ``fill`` has filled it, in a thread up to ``depth`` units ahead."""
    if depth == 0:
        for unit in units:
            fill(unit)
            yield unit
        return
    pending: deque[tuple[_T, Future[None]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="isogloss-prefetch") as executor:
        try:
            for unit in units:
                pending.append((unit, executor.submit(fill, unit)))
                if len(pending) > depth:
                    ready, done = pending.popleft()
                    done.result()
                    yield ready
            while pending:
                ready, done = pending.popleft()
                done.result()
                yield ready
        finally:
            for _, done in pending:
                done.cancel()
