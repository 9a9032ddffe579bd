"""Moments of a site's rows: float64, mergeable, and bound to the revision they cover."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import ShapeError
from isogloss.short_repr import short_repr
from isogloss.store.lanes.huge_rows import HugeRows, find_huge
from isogloss.store.lanes.norm_spread import (
    PART_ROWS,
    POSITIONS,
    NormSpread,
    SpreadSums,
    exact_spread,
    merge_spreads,
)
from isogloss.store.schema.batch import finite_rows
from isogloss.store.schema.recording_spec import Rows

BLOCK_ROWS = 256
"""Rows measured together, of wide sites; few enough to stay in the processor's cache."""
_BLOCK_NUMBERS = 256 << 10
"""Numbers measured together, of narrow sites."""
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

    norms: NormSpread | None = None
    """How the norms are spread; None where a lane was measured before this was."""

    __repr__ = short_repr

    @property
    def variance(self) -> float:
        """Total variance, ``sum(m2) / count``; 0 without rows."""
        return float(self.m2.sum() / self.count) if self.count else 0.0

    @classmethod
    def empty(cls, width: int) -> "SiteStatistics":
        """Return the statistics of no rows."""
        zeros = np.zeros(width)
        return cls(
            count=0,
            nonfinite=0,
            mean=zeros,
            m2=zeros,
            norm_mean=0.0,
            norm_max=0.0,
            norms=NormSpread.empty(width),
        )

    @property
    def huge(self) -> HugeRows | None:
        """The few rows that hold most of the variance, where there are such; see there."""
        if self.norms is None:
            return None
        return find_huge(self.norms, self.mean, float(self.m2.sum()))

    @property
    def peak_to_rms(self) -> float | None:
        """Largest norm over the root of the mean squared norm; None where unknown."""
        rms = 0.0 if self.norms is None else self.norms.rms()
        return self.norm_max / rms if rms else None

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
            norms=merge_spreads((self.norms, other.norms)),
        )


def measure(
    blocks: Iterable[Rows], width: int, positions: Iterable[NDArray[np.generic]] | None = None
) -> SiteStatistics:
    """Return the statistics of rows that come in blocks of any size.

    Moments are taken about a shift near the mean, in float32 within 64 rows and in float64 beyond:
    less than half the time of float64 throughout, at a relative error of about 1e-6 in the
    variance.

    Args:
        blocks: the rows, ``[rows, width]`` each.
        width: numbers of a row.
        positions: of the rows of each block; None: all count as later than the first.

    Returns:
        The statistics.
    """
    total = SiteStatistics.empty(width)
    block_rows = _block_rows(width)
    spread = SpreadSums(width)
    near = _Moments(width, spread)
    beside = itertools.repeat(None) if positions is None else positions
    for block, of in zip(blocks, beside, strict=positions is not None):
        groups = _groups(of, len(block))
        for start in range(0, len(block), block_rows):
            part, at = block[start : start + block_rows], groups[start : start + block_rows]
            if not near.add(part, at):
                total = total.merge(_measure_exactly(part, at))
            if near.count >= _SHIFT_ROWS:
                total = total.merge(near.statistics())
                near = _Moments(width, spread)
    total = total.merge(near.statistics())
    return replace(total, norms=merge_spreads((total.norms, spread.spread())))


def _block_rows(width: int) -> int:
    """Return how many rows are measured together: a power of 2, so that parts are whole."""
    fitting = max(BLOCK_ROWS, min(4 * BLOCK_ROWS, _BLOCK_NUMBERS // width))
    return 1 << fitting.bit_length() - 1


def _groups(positions: NDArray[np.generic] | None, rows: int) -> NDArray[np.intp]:
    if positions is None:
        return np.full(rows, POSITIONS - 1, np.intp)
    return np.minimum(positions.astype(np.int64), POSITIONS - 1).astype(np.intp)


class _Moments:
    """Sums over at most some thousand rows, taken about one shift."""

    def __init__(self, width: int, spread: SpreadSums) -> None:
        self.count = 0
        self._shift = np.zeros(width, np.float32)
        self._spread, self._powers = spread, np.zeros(width)
        self._rows = np.empty((_block_rows(width), width), np.float32)

    def add(self, block: Rows, groups: NDArray[np.intp]) -> bool:
        """Add one block of rows; False, and none added, if one is huge or not finite."""
        rows = self._rows[: len(block)]
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(rows, block, casting="unsafe")
            squares = np.einsum("ij,ij->i", rows, rows)
        if not squares.max() < _HUGE:  # the maximum of numbers with a NaN is NaN
            return False
        if not self.count:
            self._shift = rows[:PART_ROWS].mean(axis=0)
        self.count += len(rows)
        rows -= self._shift
        self._powers += self._spread.add(rows, squares, groups)
        return True

    def statistics(self) -> SiteStatistics:
        """Return what was taken in; its norms are counted in the spread."""
        empty = SiteStatistics.empty(len(self._shift))
        if not self.count:
            return empty
        sums, norms = self._spread.sums, np.sqrt(self._spread.squares.astype(np.float64))
        self._spread.settle(self._shift)
        return replace(
            empty,
            count=self.count,
            mean=self._shift + sums / self.count,
            m2=np.maximum(self._powers - sums * sums / self.count, 0),
            norm_mean=float(norms.mean()),
            norm_max=float(norms.max()),
        )


def _measure_exactly(block: Rows, groups: NDArray[np.intp]) -> SiteStatistics:
    """Measure rows of which some are not finite, or so large that float32 might overflow."""
    finite = finite_rows(block)
    rows = block[finite].astype(np.float64)
    nonfinite = len(block) - len(rows)
    if not len(rows):
        return replace(SiteStatistics.empty(block.shape[1]), nonfinite=nonfinite)
    spread = exact_spread(rows, groups[finite])
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
        norms=spread,
    )
