"""Rows so large that a few of them hold most of the variance, and where they stand.

Sinks and the first tokens of a text, in models without a token for its beginning, have norms a
hundred times those of other rows. The variance is then theirs: what is trained or compared on such
rows says little about the others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.short_repr import short_repr
from isogloss.store.lanes.norm_spread import POSITIONS, NormSpread, classes_of

FEW = 0.05
"""Share of the rows up to which they are few."""
MOST = 0.5
"""Share of the variance from which on it is most of it.

5 % of rows with half of the variance have a mean squared distance 19 times that of the others, so
their norms lie more than one class (a factor of 4, squared 16) above. Normal rows are far from it:
of any width, 5 % hold less than a third.
"""
_EXPLAINS = 0.9
"""Share of the squares of huge rows that the first positions must hold to be named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HugeRows:
    """Few rows with the largest norms, which hold most of the variance about the mean."""

    rows: int
    """How many."""

    row_share: float
    """Their share of all rows; at most 5 %."""

    least_norm: float
    """All rows of at least this norm: a power of 4."""

    variance_share: float
    """Their share of the summed squared distances from the mean; at least a half."""

    square_share: float
    """Their share of the summed squared norms."""

    by_position: tuple[int, ...]
    """How many stand at position 0, 1, ... 7, and at all later ones, 9 numbers."""

    skip_first: int
    """How many first positions to leave out to be rid of them, 0 to 8; 0: they stand elsewhere."""

    __repr__ = short_repr


def find_huge(spread: NormSpread, mean: NDArray[np.float64], total_m2: float) -> HugeRows | None:
    """Return the fewest rows of the largest norms, by classes, that hold most of the variance.

    Args:
        spread: of the norms.
        mean: of all rows.
        total_m2: sum of the squared distances of all rows from it.

    Returns:
        The rows; None where no few rows hold most of it.
    """
    counts = spread.class_counts
    if total_m2 <= 0 or not len(counts):
        return None
    rows = np.cumsum(counts[::-1])
    held = np.cumsum(spread.class_scatter(mean)[::-1]) / total_m2
    found = np.flatnonzero((rows <= FEW * counts.sum()) & (held >= MOST))
    if not len(found):
        return None
    at = int(found[0])
    least = int(spread.classes[::-1][at])
    is_huge = classes_of(spread.bins) >= least
    squares = spread.squares[:, is_huge].sum(axis=1)
    by_position = spread.counts[:, is_huge].sum(axis=1)
    return HugeRows(
        rows=int(rows[at]),
        row_share=float(rows[at] / counts.sum()),
        least_norm=4.0**least,
        variance_share=min(1.0, float(held[at])),
        square_share=float(squares.sum() / spread.squares.sum()),
        by_position=tuple(int(count) for count in by_position),
        skip_first=_skip_first(squares),
    )


def _skip_first(squares: NDArray[np.float64]) -> int:
    """Return how many first positions hold nearly all of the huge rows' squares; 0: none do."""
    held = np.cumsum(squares)[: POSITIONS - 1] / squares.sum()
    enough = np.flatnonzero(held >= _EXPLAINS)
    return int(enough[0]) + 1 if len(enough) else 0
