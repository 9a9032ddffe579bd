"""Moments of a site's rows: float64, mergeable, and bound to the revision they cover."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import ShapeError
from isogloss.store.batches import finite_rows
from isogloss.store.specs import Rows

BLOCK_ROWS = 512
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
    half the time of float64 throughout, at a relative error of about 1e-6 in the variance.
    """
    total = SiteStatistics.empty(width)
    for block in blocks:
        for start in range(0, len(block), BLOCK_ROWS):
            total = total.merge(_measure_block(block[start : start + BLOCK_ROWS]))
    return total


def _measure_block(block: Rows) -> SiteStatistics:
    rows: NDArray[np.floating] = to_float32(block)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", rows, rows)
    nonfinite = 0
    if not (squares < _HUGE).all():
        finite = finite_rows(block)
        nonfinite = int(len(block) - finite.sum())
        rows = rows[finite].astype(np.float64)
        squares = np.einsum("ij,ij->i", rows, rows)
    if not len(rows):
        return replace(SiteStatistics.empty(block.shape[1]), nonfinite=nonfinite)
    norms = np.sqrt(squares.astype(np.float64))
    shift = rows[:64].mean(axis=0, dtype=np.float64).astype(rows.dtype)
    rows -= shift
    sums, powers = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        sums += part.sum(axis=0)
        powers += np.einsum("ij,ij->j", part, part)
    return SiteStatistics(
        count=len(rows),
        nonfinite=nonfinite,
        mean=shift + sums / len(rows),
        m2=np.maximum(powers - sums * sums / len(rows), 0),
        norm_mean=float(norms.mean()),
        norm_max=float(norms.max()),
    )


def to_float32(values: Rows) -> NDArray[np.float32]:
    """Return a copy of rows as float32; exact for every dtype a site may have."""
    if values.dtype.name != "bfloat16":
        return np.array(values, np.float32)
    wide = values.view(np.uint16).astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)
