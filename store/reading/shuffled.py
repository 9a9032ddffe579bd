"""Read the rows of each step of an epoch, ahead of the caller, mapped or window by window."""

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr
from isogloss.store.reading.buffers import RecycledMemory
from isogloss.store.schema.recording_spec import RecordingSpec, Rows, SiteSpec
from isogloss.store.shards.mapped import Table

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_READERS = min(4, os.cpu_count() or 1)
"""Threads that read and decompress the parts of a window; all they do releases the lock of
Python's interpreter."""
_PART_ROWS = 4096
"""Rows that one of them reads at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffledBatch:
    """One step of shuffled reading."""

    step: int
    """Place in the epoch, from 0."""

    rows: NDArray[np.int64]
    """Numbers of these rows in the recording, ``[batch_rows]``."""

    sites: Mapping[str, Rows]
    """Activations by site, ``[batch_rows, width]``; row i belongs to ``rows[i]``."""

    __repr__ = short_repr


@runtime_checkable
class RowSource(Protocol):
    """The methods of a reader that shuffled reading uses."""

    spec: RecordingSpec
    memory: RecycledMemory

    def take_into(self, site: str, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Fill ``out`` (``[n, row_bytes]``) with rows of a site in the order given."""
        ...

    def table(self, site: str) -> tuple[Table, NDArray[np.int64]] | None:
        """Return the mapped rows of a site and the shift of each lane, or None."""
        ...

    def lane_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which lane holds each row."""
        ...


@runtime_checkable
class RowOrder(Protocol):
    """The rows of each step of an epoch."""

    @property
    def batch_rows(self) -> int:
        """Rows of one batch of one rank."""
        ...

    @property
    def window_rows(self) -> int:
        """Rows that are mixed with one another."""
        ...

    def step_rows(self, start_step: int) -> Iterator[NDArray[np.int64]]:
        """Yield the rows that this rank reads in each step, ``[batch_rows]``."""
        ...


class ShuffledReading:
    """One pass over an epoch, from one of its steps on, or over each so many-th of its steps.

    Args:
        source: reads the rows.
        order: the rows of each step.
        sites: names of the sites to read together.
        start_step: the step to begin with.
        every: read each so many-th step only.

    Raises:
        NotFound: the recording has no such site.
        InvalidInput: no site is given, or a number is too small.
    """

    def __init__(
        self,
        source: RowSource,
        order: RowOrder,
        sites: Sequence[str],
        start_step: int,
        every: int = 1,
    ) -> None:
        for site in sites:
            source.spec.site_index(site)
        if start_step < 0 or every < 1 or not sites:
            raise InvalidInput(
                f"start_step {start_step} must be >= 0, every {every} at least 1, and {len(sites)} "
                "sites at least one"
            )
        self._source = source
        self._order = order
        self._sites = tuple(dict.fromkeys(sites))
        self._start_step = start_step
        self._every = every

    def _step_rows(self) -> Iterator[NDArray[np.int64]]:
        rows = self._order.step_rows(self._start_step)
        return itertools.islice(rows, 0, None, self._every)

    @property
    def _window_steps(self) -> int:
        """Steps whose rows are read together: about a window."""
        return max(1, -(-self._order.window_rows // self._order.batch_rows))

    def batches(self, prefetch: int, *, mapped: bool) -> Iterator[ShuffledBatch]:
        """Yield the batches, reading up to ``prefetch`` units ahead."""
        if prefetch < 0:
            raise InvalidInput(f"prefetch {prefetch} must be >= 0")
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
        steps = self._step_rows()
        # memory that another thread allocates comes fresh from the system: 0.12 ms a batch of 3 MiB
        units = ((rows, self._empty(len(rows), np.empty)) for rows in steps)
        ready = _ahead(units, lambda unit: self._gather_mapped(tables, *unit), prefetch)
        for (rows, out), step in zip(ready, itertools.count(self._start_step, self._every)):
            sites = {site: self._as_rows(site, table) for site, table in out.items()}
            yield ShuffledBatch(step=step, rows=rows, sites=sites)

    def _window_batches(self, prefetch: int) -> Iterator[ShuffledBatch]:
        step = self._start_step
        row_bytes = sum(spec.row_bytes for spec in self._specs)
        window_bytes = self._window_steps * self._order.batch_rows * row_bytes
        self._source.memory.keep((1 + prefetch) * window_bytes)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="isogloss-read") as readers:
            placed = _ahead(self._windows(), _Window.place, min(prefetch, 1))
            for window in _ahead(placed, partial(self._read_window, readers), prefetch):
                start = 0
                for rows in window.steps:
                    places = window.places[start : start + len(rows)]
                    sites = {
                        site: self._as_rows(site, np.take(table, places, mode="clip"))
                        for site, table in window.found.items()
                    }
                    yield ShuffledBatch(step=step, rows=rows, sites=sites)
                    start += len(rows)
                    step += self._every
                window.found.clear()

    def _windows(self) -> Iterator["_Window"]:
        """Yield whole steps, about a window at a time: read together."""
        ahead = self._step_rows()
        while held := list(itertools.islice(ahead, self._window_steps)):
            yield _Window(held)

    def _read_window(self, readers: Executor, window: "_Window") -> None:
        """Read the rows of a window, each part of the disk once, several parts at a time."""
        rows = window.rows
        parts = list(itertools.pairwise(_part_bounds(rows)))
        for site, table in self._empty(len(rows), self._source.memory.empty).items():
            found = table.view(np.uint8).reshape(len(rows), -1)
            take = partial(self._source.take_into, site)
            running = [readers.submit(take, rows[i:j], found[i:j]) for i, j in parts]
            wait(running)
            for call in running:
                call.result()
            window.found[site] = table

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

    @property
    def _specs(self) -> list[SiteSpec]:
        return [self._source.spec.sites[self._source.spec.site_index(site)] for site in self._sites]

    def _empty(
        self, rows: int, make: Callable[[int, np.dtype[np.void]], Table]
    ) -> dict[str, Table]:
        """Return room for rows, by site."""
        return {spec.name: make(rows, np.dtype(f"V{spec.row_bytes}")) for spec in self._specs}

    def _as_rows(self, site: str, opaque: Table) -> Rows:
        spec = self._source.spec.sites[self._source.spec.site_index(site)]
        return opaque.view(spec.numpy_dtype).reshape(len(opaque), spec.width)


@dataclass(slots=True)
class _Window:
    """Steps whose rows are read together."""

    steps: list[NDArray[np.int64]]
    """The rows of each."""

    found: dict[str, Table] = field(default_factory=dict[str, Table])
    """All of them by site, ascending."""

    places: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Positions in ``found`` of the rows of the steps, one step after the other."""

    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """All of their rows, ascending, each once."""

    def place(self) -> None:
        """Sort the rows of all steps by their place on disk."""
        rows = np.concatenate(self.steps)
        order = np.argsort(rows)
        ascending = rows[order]
        is_new = np.empty(len(rows), np.bool_)
        is_new[:1] = True
        np.not_equal(ascending[1:], ascending[:-1], out=is_new[1:])
        self.rows = ascending[is_new]
        self.places = np.empty_like(order)
        self.places[order] = np.cumsum(is_new) - 1


def _part_bounds(ordered: NDArray[np.int64]) -> list[int]:
    """Return where to cut ascending rows into parts: never between two that follow one another."""
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
