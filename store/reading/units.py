"""Where the units of structured sampling are: stretches of neighbouring rows, and their places.

A *run* is rows that follow one another on disk and in one document, at one training step. A
*stretch* is one run, or several of one document that continue one another: producers that write at
a time may part a document. Memory is that of the stretches, some 24 bytes each, whatever the number
of rows.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isogloss.store.reading.sampling import Sampling
from isogloss.store.schema.batch import TokenColumns

COLUMN_ROWS = 1 << 17
"""Rows whose token columns are looked at together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Runs:
    """Runs in the order of their rows, each array ``[runs]``."""

    row: NDArray[np.int64]
    rows: NDArray[np.int64]
    document: NDArray[np.uint64]
    position: NDArray[np.int64]
    step: NDArray[np.uint64]

    @classmethod
    def find(cls, columns: Iterable[TokenColumns], keep: NDArray[np.bool_] | None) -> "_Runs":
        """Find the runs of all rows, or of those kept; columns come in pieces, in row order."""
        firsts: list[NDArray[np.int64]] = []
        documents: list[NDArray[np.uint64]] = []
        positions: list[NDArray[np.int64]] = []
        steps: list[NDArray[np.uint64]] = []
        kept_rows: list[NDArray[np.int64]] = []
        start, last = 0, (-2, 0, 0, 0)
        ends: list[NDArray[np.int64]] = []
        for piece in columns:
            rows = np.arange(start, start + piece.rows, dtype=np.int64)
            start += piece.rows
            document = np.asarray(piece.document, np.uint64)
            position = np.asarray(piece.position).astype(np.int64)
            step = np.asarray(piece.step, np.uint64)
            if keep is not None:
                wanted = keep[rows]
                rows, document = rows[wanted], document[wanted]
                position, step = position[wanted], step[wanted]
            if not len(rows):
                continue
            is_next = np.empty(len(rows), np.bool_)
            is_next[0] = last == (rows[0] - 1, int(document[0]), position[0] - 1, int(step[0]))
            is_next[1:] = (np.diff(rows) == 1) & (np.diff(position) == 1)
            is_next[1:] &= (document[1:] == document[:-1]) & (step[1:] == step[:-1])
            begins = np.flatnonzero(~is_next)
            firsts.append(rows[begins])
            documents.append(document[begins])
            positions.append(position[begins])
            steps.append(step[begins])
            before = np.concatenate([[last[0]], rows[:-1]])
            ends.append(before[begins] + 1)
            last = (int(rows[-1]), int(document[-1]), int(position[-1]), int(step[-1]))
            kept_rows = [rows[-1:]]
        if not firsts:
            nothing, none = np.empty(0, np.int64), np.empty(0, np.uint64)
            return cls(row=nothing, rows=nothing, document=none, position=nothing, step=none)
        row = np.concatenate(firsts)
        stop = np.concatenate([*ends, kept_rows[0] + 1])[1:]
        return cls(
            row=row,
            rows=stop - row,
            document=np.concatenate(documents),
            position=np.concatenate(positions),
            step=np.concatenate(steps),
        )

    def stretches(self) -> list[NDArray[np.int64]] | None:
        """Return which runs form each stretch, in the order of their first rows.

        None where each run is a stretch of its own.
        """
        found, of, counts = np.unique(self.document, return_inverse=True, return_counts=True)
        if len(found) == len(self.document):
            return None
        parted = np.flatnonzero(counts[of.reshape(-1)] > 1)
        waiting: defaultdict[tuple[int, int, int], deque[int]] = defaultdict(deque)
        for run in parted.tolist():
            end = int(self.position[run] + self.rows[run])
            waiting[int(self.document[run]), int(self.step[run]), end].append(run)
        follower: dict[int, int] = {}
        for run in parted.tolist():
            key = int(self.document[run]), int(self.step[run]), int(self.position[run])
            if before := waiting.get(key):
                follower[before.popleft()] = run
        if not follower:
            return None
        followers = {*follower.values()}
        stretches: list[NDArray[np.int64]] = []
        for run in range(len(self.row)):
            if run not in followers:
                chain = [run]
                while chain[-1] in follower:
                    chain.append(follower[chain[-1]])
                stretches.append(np.array(chain, np.int64))
        return stretches


@dataclass(slots=True)
class Units:
    """The units of a recording, numbered in the order of their rows.

    Made by :meth:`find`.
    """

    count: int
    """How many there are."""

    _offsets: NDArray[np.int64]
    """Places of a unit's rows in its stretch behind the first one, ``[length]``."""
    _stride: int
    _ends: NDArray[np.int64]
    """Number of the unit after the last of each stretch, ``[stretches]``."""
    _bases: NDArray[np.int64]
    """What is added to ``stride * unit`` for its first row's place, ``[stretches]``."""
    _run_places: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Where documents are parted: place of the first row of each run."""
    _run_rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """And the number of that row."""

    @classmethod
    def find(
        cls, columns: Iterable[TokenColumns], sampling: Sampling, keep: NDArray[np.bool_] | None
    ) -> "Units":
        """Find all units of the rows whose token columns are given.

        Args:
            columns: token columns of all rows, in pieces of any size.
            sampling: what a unit is.
            keep: bool ``[rows]``, rows that may be in a unit, or between the rows of one; None:
                all.

        Returns:
            The units.
        """
        runs = _Runs.find(columns, keep)
        stretches = runs.stretches()
        if stretches is None:
            starts, lengths = runs.row, runs.rows
            places = rows = np.empty(0, np.int64)
        else:
            order = np.concatenate(stretches)
            places = np.concatenate([[0], np.cumsum(runs.rows[order])])[:-1].astype(np.int64)
            rows = runs.row[order]
            heads = np.cumsum([0, *(len(chain) for chain in stretches)])[:-1]
            starts = places[heads]
            lengths = np.add.reduceat(runs.rows[order], heads)
        room = lengths - sampling.span
        counts = np.where(room < 0, 0, room // sampling.stride + 1)
        starts, counts = starts[counts > 0], counts[counts > 0]
        ends = np.cumsum(counts, dtype=np.int64)
        return cls(
            count=int(ends[-1]) if len(ends) else 0,
            _offsets=np.arange(sampling.length, dtype=np.int64) * sampling.distance,
            _stride=sampling.stride,
            _ends=ends,
            _bases=starts - sampling.stride * (ends - counts),
            _run_places=places,
            _run_rows=rows,
        )

    def rows(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of each of these units, ``[units, length]``."""
        return self._numbers(self._first_places(units)[:, None] + self._offsets)

    def first_rows(self) -> Iterator[NDArray[np.int64]]:
        """Yield the first row of each unit, in pieces, in the order of the units."""
        for start in range(0, self.count, COLUMN_ROWS):
            units = np.arange(start, min(start + COLUMN_ROWS, self.count), dtype=np.int64)
            yield self._numbers(self._first_places(units))

    def _first_places(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        return units * self._stride + self._bases[np.searchsorted(self._ends, units, "right")]

    def _numbers(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the rows at these places."""
        if not len(self._run_places):
            return places
        run = np.searchsorted(self._run_places, places, "right") - 1
        return places - self._run_places[run] + self._run_rows[run]
