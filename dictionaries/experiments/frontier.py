"""What dictionaries of a sweep are worth: error over features a row, and what reseeding changes."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from isogloss.errors import InvalidInput

Verdict = Literal["lower", "higher", "not distinguishable", "unknown"]
"""How the error of one cell compares with that of another; unknown: nothing was trained twice."""
_CONFIDENCE = 0.95


class CellKey(NamedTuple):
    """What the dictionaries of a cell have in common: all but the seed."""

    site: str
    kind: str
    features: int
    asked: float
    """Features a row that were asked for."""
    epochs: float = 1.0
    """Passes over the rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptDictionary:
    """A trained dictionary of a sweep, as its figures over held-out rows say."""

    key: CellKey
    """Its site, kind and sizes."""
    seed: int
    """Seed of its weights."""
    l0: float
    """Features that fire on a row."""
    fvu: float
    """Fraction of variance unexplained."""
    dead_fraction: float
    """Share of features that never fire."""
    rows: int
    """Rows trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Dictionaries that differ in their seed alone."""

    key: CellKey
    """What they have in common."""
    seeds: int
    """How many there are."""
    l0: float
    """Mean of their features a row."""
    fvu: float
    """Geometric mean of their FVU."""
    dead_fraction: float
    """Mean of their shares of dead features."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reseeding:
    """How much log FVU changes by the seed alone, pooled over all cells that were reseeded.

    ``s^2 = sum_cells sum_seeds (log FVU - mean of the cell)^2 / degrees``. Pooling takes the
    relative change to be the same everywhere, which lets two seeds a cell do.
    """

    deviation: float
    """Standard deviation s of log FVU between seeds."""
    degrees: int
    """Degrees of freedom: dictionaries less cells, over cells with several seeds."""

    def factor(self, cell: Cell) -> float:
        """Return f such that the 95 % band of a cell's FVU is from ``fvu / f`` to ``fvu * f``."""
        return self._factor(1 / cell.seeds)

    def compare(self, cell: Cell, other: Cell) -> Verdict:
        """Say whether a cell's FVU is below another's by more than reseeding explains (95 %)."""
        ratio = cell.fvu / other.fvu
        most = self._factor(1 / cell.seeds + 1 / other.seeds)
        if ratio * most < 1:
            return "lower"
        return "higher" if ratio > most else "not distinguishable"

    def _factor(self, share: float) -> float:
        quantile = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, self.degrees))
        return float(np.exp(quantile * self.deviation * share**0.5))


def cells_of(dictionaries: Sequence[SweptDictionary]) -> list[Cell]:
    """Return the cells of a sweep, by site, kind and sizes.

    Raises:
        InvalidInput: an FVU is not above 0, so that it has no logarithm.
    """
    for one in dictionaries:
        if not one.fvu > 0:
            raise InvalidInput(f"FVU of {one.key} is {one.fvu}; wanted a number above 0")
    found: list[Cell] = []
    for key, group in groupby(sorted(dictionaries, key=lambda d: d.key), key=lambda d: d.key):
        own = list(group)
        found.append(
            Cell(
                key=key,
                seeds=len(own),
                l0=float(np.mean([one.l0 for one in own])),
                fvu=float(np.exp(np.mean([np.log(one.fvu) for one in own]))),
                dead_fraction=float(np.mean([one.dead_fraction for one in own])),
            )
        )
    return found


def reseeding_of(dictionaries: Sequence[SweptDictionary]) -> Reseeding | None:
    """Return how much the seed changes; None where no cell has two seeds."""
    by_cell: defaultdict[CellKey, list[float]] = defaultdict(list)
    for one in dictionaries:
        by_cell[one.key].append(float(np.log(one.fvu)))
    several = [np.array(values) for values in by_cell.values() if len(values) > 1]
    degrees = sum(len(values) - 1 for values in several)
    if not degrees:
        return None
    squares = sum(float(np.square(values - values.mean()).sum()) for values in several)
    return Reseeding(deviation=(squares / degrees) ** 0.5, degrees=degrees)


def verdicts(cells: Sequence[Cell], reseeding: Reseeding | None) -> list[Verdict]:
    """Compare each cell with the best of its site that fires at most as many features a row.

    "Lower" never comes back: the best is compared with itself, and is not distinguishable.
    """
    found: list[Verdict] = []
    for cell in cells:
        rivals = [
            other
            for other in cells
            if other.key.site == cell.key.site and other.l0 <= cell.l0 * (1 + 1e-9)
        ]
        best = min(rivals, key=lambda other: other.fvu)
        found.append("unknown" if reseeding is None else reseeding.compare(cell, best))
    return found
