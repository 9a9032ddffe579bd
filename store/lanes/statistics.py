"""Moments of a site's rows: float64, mergeable, and bound to the revision they cover."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import ShapeError
from isogloss.store.schema.batch import finite_rows
from isogloss.store.schema.recording_spec import Rows

BLOCK_ROWS = 256
"""Rows measured together; few enough to stay in the processor's cache."""
_SHIFT_ROWS = 4096
"""Rows measured about one shift; then a new one is taken, as the mean may drift."""
_HUGE = 1e30
"""Squared norm from which on float32 might overflow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteStatistics:
    """Moments of the finite rows of one site."""

    count: int
    """Rows whose numbers are all finite; the moments cover these."""

    nonfinite: int
    """Rows with NaN or infinity."""

    mean: NDArray[np.float64]
    """``[width]``."""

    m2: NDArray[np.float64]
    """Sum of squared distances from the mean, ``[width]``."""

    norm_mean: float
    """Mean Euclidean norm of a row."""

    norm_max: float
    """Largest Euclidean norm of a row."""

    revision: str = ""
    """:attr:`Revision.id` of the rows covered; empty for a part of one."""

    @property
    def variance(self) -> float:
        """Total variance, ``sum(m2) / count``; 0 without rows."""
        return float(self.m2.sum() / self.count) if self.count else 0.0

    @classmethod
    def empty(cls, width: int) -> "SiteStatistics":
        """Return the statistics of no rows."""
        zeros = np.zeros(width)
        return cls(count=0, nonfinite=0, mean=zeros, m2=zeros, norm_mean=0.0, norm_max=0.0)

    def merge(self, other: "SiteStatistics") -> "SiteStatistics":
        """Return the statistics of both sets of rows together (Chan, Golub, LeVeque 1979).

        Args:
            other: of other rows of the same site.

        Returns:
            The moments of all rows.

        Raises:
            ShapeError: the widths differ.
        """
        if self.mean.shape != other.mean.shape:
            raise ShapeError(
                f"statistics of widths {len(self.mean)} and {len(other.mean)} do not merge"
            )
        count = self.count + other.count
        share = other.count / count if count else 0.0
        delta = other.mean - self.mean
        return SiteStatistics(
            count=count,
            nonfinite=self.nonfinite + other.nonfinite,
            mean=self.mean + delta * share,
            m2=self.m2 + other.m2 + delta * delta * (self.count * share),
            norm_mean=self.norm_mean + (other.norm_mean - self.norm_mean) * share,
            norm_max=max(self.norm_max, other.norm_max),
        )


def measure(blocks: Iterable[Rows], width: int) -> SiteStatistics:
    """Return the statistics of rows that come in blocks of any size.

    Moments are taken about a shift near the mean, in float32 within 64 rows and in float64 beyond:
    less than half the time of float64 throughout, at a relative error of about 1e-6 in the
    variance.
    """
    total = SiteStatistics.empty(width)
    near = _Moments(width)
    for block in blocks:
        for start in range(0, len(block), BLOCK_ROWS):
            part = block[start : start + BLOCK_ROWS]
            if not near.add(part):
                total = total.merge(_measure_exactly(part))
            if near.count >= _SHIFT_ROWS:
                total = total.merge(near.statistics())
                near = _Moments(width)
    return total.merge(near.statistics())


class _Moments:
    """Sums over at most some thousand rows, taken about one shift."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self._shift = np.zeros(width, np.float32)
        self._sums, self._powers = np.zeros(width), np.zeros(width)
        self._norm_sum = self._norm_max = 0.0
        self._rows = np.empty((BLOCK_ROWS, width), np.float32)

    def add(self, block: Rows) -> bool:
        """Add at most ``BLOCK_ROWS`` rows; False, and none added, if one is huge or not finite."""
        rows = self._rows[: len(block)]
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(rows, block, casting="unsafe")
            squares = np.einsum("ij,ij->i", rows, rows)
        if not (squares < _HUGE).all():
            return False
        if not self.count:
            self._shift = rows[:64].mean(axis=0)
        self.count += len(rows)
        norms = np.sqrt(squares.astype(np.float64))
        self._norm_sum += float(norms.sum())
        self._norm_max = max(self._norm_max, float(norms.max()))
        rows -= self._shift
        for start in range(0, len(rows), 64):
            part = rows[start : start + 64]
            self._sums += part.sum(axis=0)
            self._powers += np.einsum("ij,ij->j", part, part)
        return True

    def statistics(self) -> SiteStatistics:
        """Return what was taken in."""
        if not self.count:
            return SiteStatistics.empty(len(self._sums))
        return SiteStatistics(
            count=self.count,
            nonfinite=0,
            mean=self._shift + self._sums / self.count,
            m2=np.maximum(self._powers - self._sums * self._sums / self.count, 0),
            norm_mean=self._norm_sum / self.count,
            norm_max=self._norm_max,
        )


def _measure_exactly(block: Rows) -> SiteStatistics:
    """Measure rows of which some are not finite, or so large that float32 might overflow."""
    finite = finite_rows(block)
    rows = block[finite].astype(np.float64)
    nonfinite = len(block) - len(rows)
    if not len(rows):
        return replace(SiteStatistics.empty(block.shape[1]), nonfinite=nonfinite)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    mean = rows.mean(axis=0)
    rows -= mean
    return SiteStatistics(
        count=len(rows),
        nonfinite=nonfinite,
        mean=mean,
        m2=np.einsum("ij,ij->j", rows, rows),
        norm_mean=float(norms.mean()),
        norm_max=float(norms.max()),
    )
