"""Training steps of rows: a number for each row, and runs of rows that have one number.

Rows that are written together have one step, so a column of steps is a few runs. A column whose
rows have one step holds that number once (an array without strides), and costs no memory.
"""

import itertools
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput

MAX_STEP = (1 << 64) - 1
"""The largest step that is stored."""

StepRun: TypeAlias = tuple[int, int]
"""A step, and how many rows that follow one another have it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepInfo:
    """The rows of a recording that were recorded at one training step."""

    step: int
    """The training step; 0 outside training."""

    rows: int
    """How many rows were recorded at it."""

    documents: int
    """How many documents these rows are of."""

    repeated_rows: int = 0
    """How many of these rows repeat an earlier one: the same position of the same document at this
    step. Two ranks that read a document at once both store it. 0 of step 0, where a loop that shows
    a document again means it.
    """


def check_step(step: object) -> int:
    """Return a training step as an int.

    Args:
        step: a whole number of any integer type, such as numpy's.

    Returns:
        The number.

    Raises:
        InvalidInput: it is no whole number, or not in ``[0, 2**64)``.
    """
    wanted = "wanted a whole number in [0, 2**64), the training step; 0 outside training"
    if type(step) is int and 0 <= step <= MAX_STEP:
        return step  # each batch asks: the look at a protocol below takes a fifth of its decoding
    if isinstance(step, bool) or not isinstance(step, SupportsIndex):
        raise InvalidInput(f"step is {step!r} ({type(step).__name__}), {wanted}")
    try:
        found = operator.index(step)
    except TypeError as error:  # an array of several numbers
        raise InvalidInput(f"step is {step!r} ({type(step).__name__}), {wanted}") from error
    if not 0 <= found <= MAX_STEP:
        raise InvalidInput(f"step is {found}, {wanted}")
    return found


def check_steps(steps: Iterable[object]) -> tuple[int, ...]:
    """Return training steps as ints; InvalidInput where there is none or one is no step."""
    found = tuple(check_step(step) for step in steps)
    if not found:
        raise InvalidInput("no steps were given: name at least one, or None for all")
    return found


@lru_cache(maxsize=1024)
def one_step(step: int, rows: int) -> NDArray[np.generic]:
    """Return the column of rows that all have one step: uint64 ``[rows]``, read-only.

    Each batch asks several times, mostly for what the one before asked: making it anew took an
    eighth of a small batch's decoding. It is one number, so that keeping it costs nothing.
    """
    return np.broadcast_to(np.uint64(step), (rows,))


def no_steps() -> NDArray[np.generic]:
    """Return what stands for a column of zeros whose length is not known yet."""
    return _NO_STEPS


_NO_STEPS = np.broadcast_to(np.uint64(0), (0,))  # an object of its own: it is known by that


def has_one_step(column: NDArray[np.generic]) -> bool:
    """Whether a column is known, without a look at its numbers, to hold one step only."""
    return len(column) < 2 or column.strides == (0,)


def step_runs(column: NDArray[np.generic]) -> list[StepRun]:
    """Return the runs of a column of steps; none where it has no rows."""
    if has_one_step(column):
        return [(int(column[0]), len(column))] if len(column) else []
    starts = [0, *(np.flatnonzero(column[1:] != column[:-1]) + 1).tolist(), len(column)]
    return [(int(column[start]), stop - start) for start, stop in itertools.pairwise(starts)]


def step_column(runs: Sequence[StepRun]) -> NDArray[np.generic]:
    """Return the column that runs describe: uint64, as many rows as the runs have together."""
    merged = merge_runs(runs)
    if len(merged) < 2:
        return one_step(*merged[0]) if merged else one_step(0, 0)
    steps = np.array([step for step, _ in merged], np.uint64)
    return np.repeat(steps, [rows for _, rows in merged])


def merge_runs(runs: Iterable[StepRun]) -> list[StepRun]:
    """Return runs with neighbours of one step as one, and without empty ones."""
    merged: list[StepRun] = []
    for step, rows in runs:
        if not rows:
            continue
        if merged and merged[-1][0] == step:
            merged[-1] = (step, merged[-1][1] + rows)
        else:
            merged.append((step, rows))
    return merged


class StepRuns:
    """The runs of many rows, of which parts are looked up."""

    def __init__(self, runs: Iterable[StepRun]) -> None:
        self.runs = merge_runs(runs)
        """All of them."""
        self._ends = list(itertools.accumulate(rows for _, rows in self.runs))

    def slice(self, start: int, stop: int) -> list[StepRun]:
        """Return the runs of rows ``[start, stop)``."""
        first, last = bisect_right(self._ends, start), bisect_left(self._ends, stop)
        ends = [*self._ends[first:last], stop]
        starts = [start, *ends]
        steps = (step for step, _ in self.runs[first : last + 1])
        runs = zip(steps, starts, ends, strict=False)
        return [(step, end - begin) for step, begin, end in runs if end > begin]


def join_steps(parts: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """Return columns of steps one behind the other; without a copy where all have one step."""
    filled = [part for part in parts if len(part)]
    rows = sum(len(part) for part in filled)
    if all(has_one_step(part) for part in filled) and len({int(part[0]) for part in filled}) < 2:
        return one_step(int(filled[0][0]) if filled else 0, rows)
    return np.concatenate(filled)
