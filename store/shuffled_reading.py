"""Shuffled reading: the rows of each step, gathered and read ahead."""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from isogloss.store.mapping import Table
from isogloss.store.shuffling import ShuffleOrder
from isogloss.store.specs import RecordingSpec, Rows

_log = logging.getLogger(__name__)


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

    def take(self, site: str, rows: NDArray[np.int64]) -> Rows:
        """Return rows of a site in the order given."""
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
        steps = self._order.step_rows(self._start_step)
        step = self._start_step
        if tables is not None:
            found = tables
            ahead = _ahead(steps, lambda rows: self._gather_mapped(found, rows), prefetch)
            for rows, sites in ahead:
                yield ShuffledBatch(step=step, rows=rows, sites=sites)
                step += 1
            return
        for window, sites in _ahead(self._windows(), self._gather, prefetch):
            for start in range(0, len(window), self._order.batch_rows):
                part = slice(start, start + self._order.batch_rows)
                values = {site: found[part] for site, found in sites.items()}
                yield ShuffledBatch(step=step, rows=window[part], sites=values)
                step += 1

    def _tables(self) -> dict[str, tuple[Table, NDArray[np.int64]]] | None:
        tables: dict[str, tuple[Table, NDArray[np.int64]]] = {}
        for site in self._sites:
            table = self._source.table(site)
            if table is None:
                _log.info("site %r is not mapped: its rows are read window by window", site)
                return None
            tables[site] = table
        return tables

    def _windows(self) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of whole steps, about a window at a time: what is read together."""
        steps = max(1, -(-self._order.window_rows // self._order.batch_rows))
        held: list[NDArray[np.int64]] = []
        for rows in self._order.step_rows(self._start_step):
            held.append(rows)
            if len(held) == steps:
                yield np.concatenate(held)
                held = []
        if held:
            yield np.concatenate(held)

    def _gather(self, rows: NDArray[np.int64]) -> dict[str, Rows]:
        """Read rows in the order of the disk and return them in the order given."""
        order = np.argsort(rows)
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        gathered: dict[str, Rows] = {}
        for site in self._sites:
            values = self._source.take(site, rows[order])
            opaque = values.view(f"V{values.shape[1] * values.dtype.itemsize}").reshape(-1)
            gathered[site] = self._as_rows(site, opaque[inverse])
        return gathered

    def _gather_mapped(
        self, tables: Mapping[str, tuple[Table, NDArray[np.int64]]], rows: NDArray[np.int64]
    ) -> dict[str, Rows]:
        lanes: NDArray[np.int64] | None = None
        gathered: dict[str, Rows] = {}
        for site, (table, shifts) in tables.items():
            places = rows
            if len(shifts) > 1:
                lanes = self._source.lane_of(rows) if lanes is None else lanes
                places = rows + shifts[lanes]
            gathered[site] = self._as_rows(site, table[places])
        return gathered

    def _as_rows(self, site: str, opaque: Table) -> Rows:
        spec = self._source.spec.sites[self._source.spec.site_index(site)]
        return opaque.view(spec.numpy_dtype).reshape(len(opaque), spec.width)


def _ahead(
    units: Iterator[NDArray[np.int64]],
    gather: Callable[[NDArray[np.int64]], dict[str, Rows]],
    depth: int,
) -> Iterator[tuple[NDArray[np.int64], dict[str, Rows]]]:
    """Yield each unit with its rows, gathered by a thread up to ``depth`` units ahead."""
    if depth == 0:
        for rows in units:
            yield rows, gather(rows)
        return
    pending: list[tuple[NDArray[np.int64], Future[dict[str, Rows]]]] = []
    with ThreadPoolExecutor(1, thread_name_prefix="isogloss-prefetch") as executor:
        try:
            for rows in units:
                pending.append((rows, executor.submit(gather, rows)))
                if len(pending) > depth:
                    ready, gathered = pending.pop(0)
                    yield ready, gathered.result()
            for ready, gathered in pending:
                yield ready, gathered.result()
        finally:
            for _, gathered in pending:
                gathered.cancel()
