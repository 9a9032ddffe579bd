"""Which rows of a site are usual, and which are far from all others, such as attention sinks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAR = 10.0
"""A row is far where its distance from the centre is more than so many times the median one."""
SAMPLE_ROWS = 1 << 12
"""Rows from which centre and median are taken."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UsualRows:
    """A ball about the centre of a site's rows: rows in it are usual, rows beyond it are far.

    The first token of a text, or a delimiter that attention rests on, may have an activation a
    hundred times as long as those of all other tokens. A few such rows hold nearly all of the
    variance: figures and scales that sum over all rows are theirs alone.
    """

    centre: NDArray[np.float64]
    """Median of each column, ``[width]``: a few far rows do not move it, as they move the mean."""
    median: float
    """Median distance of the rows from the centre."""
    limit: float
    """Greatest distance of a usual row; infinite where no row is far."""

    @classmethod
    def of(cls, rows: NDArray[np.float64], far: float = FAR) -> "UsualRows":
        """Take centre and limit from a sample of rows.

        Args:
            rows: ``[rows, width]``, at least one row, finite.
            far: how many times the median distance a usual row may have.

        Returns:
            The ball. It has no limit where more than half of the rows are equal.
        """
        centre = np.median(rows, axis=0)
        median = float(np.median(_distances(rows, centre)))
        return cls(centre=centre, median=median, limit=far * median if median > 0 else np.inf)

    def mask(self, rows: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which of ``[rows, width]`` are usual, bool ``[rows]``."""
        return _distances(rows.astype(np.float64, copy=False), self.centre) <= self.limit


def _distances(rows: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.square(rows - centre).sum(axis=1))
