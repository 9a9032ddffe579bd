"""How the norms of rows are spread: which rows are huge, where they stand, what they hold.

Norms fall into fixed *bins*, 32 an octave, and into *classes*, two octaves each; so the spread of
two sets of rows is that of their sums, whatever the rows are. Quantiles are known to half a bin,
:data:`QUANTILE_ERROR`. Of each class the mean row and the squared distances from it are kept: with
them one knows what part of the variance about the mean of all rows its rows hold, without reading
them again. (Those of each position would cost 15 % more time.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.short_repr import short_repr

POSITIONS = 9
"""Positions that are told apart: 0 to 7, and all others together."""
QUANTILE_ERROR = 2 ** (1 / 64) - 1
"""Relative error of a quantile of the norms: 1.1 %."""
_BINS_AN_OCTAVE = 32
_CLASS_BITS = 6
"""64 bins, two octaves, are a class."""
_DENSE_BINS = 1 << 13
"""Bins that squared norms in float32 may fall into, half of them below 1."""
PART_ROWS = 64
"""Rows summed in float32."""
_TINY = 2.0**-126
"""Squared norm below which rows count as zero."""


def norm_bins(squares: NDArray[np.floating]) -> NDArray[np.int32]:
    """Return the bins of rows with these squared norms, float32 or float64."""
    bounded = np.maximum(squares, squares.dtype.type(_TINY))
    first = (np.frexp(bounded)[1] - 1 >> 2) << _CLASS_BITS
    found = np.floor(np.log2(bounded) * (_BINS_AN_OCTAVE // 2)).astype(np.int32)
    # a logarithm that is rounded up must not leave the class, which is exact
    return np.clip(found, first, first + ((1 << _CLASS_BITS) - 1))


def classes_of(bins: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the classes of bins."""
    return bins >> _CLASS_BITS


def _class_of(square: float) -> int:
    """Return the class of a row with this squared norm."""
    return (math.frexp(max(square, _TINY))[1] - 1) // 4


@dataclass(frozen=True, kw_only=True, slots=True)
class NormSpread:
    """The spread of the norms of the finite rows of one site."""

    bins: NDArray[np.int32]
    """Bins that hold rows, ascending ``[bins]``; bin b holds norms in ``2 ** [b, b + 1) / 32``."""

    counts: NDArray[np.int64]
    """Rows by position and bin, ``[9, bins]``: positions 0 to 7, and all others."""

    squares: NDArray[np.float64]
    """Sums of their squared norms, ``[9, bins]``."""

    class_means: NDArray[np.float64]
    """Mean row of each class that holds rows, ascending ``[classes, width]``."""

    class_m2: NDArray[np.float64]
    """Sum of squared distances from it, over all columns, ``[classes]``."""

    __repr__ = short_repr

    @classmethod
    def empty(cls, width: int) -> "NormSpread":
        """Return the spread of no rows."""
        return cls(
            bins=np.empty(0, np.int32),
            counts=np.empty((POSITIONS, 0), np.int64),
            squares=np.empty((POSITIONS, 0)),
            class_means=np.empty((0, width)),
            class_m2=np.empty(0),
        )

    @property
    def classes(self) -> NDArray[np.int32]:
        """Classes that hold rows, ascending ``[classes]``; class c has norms in 4 ** [c, c + 1)."""
        every = classes_of(self.bins)
        return every[_starts(every)]

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Rows of each class, ``[classes]``."""
        starts = _starts(classes_of(self.bins))
        if not len(starts):
            return np.empty(0, np.int64)
        return np.add.reduceat(self.counts.sum(axis=0), starts)

    @property
    def position_counts(self) -> NDArray[np.int64]:
        """Rows at each position, ``[9]``."""
        return self.counts.sum(axis=1)

    def merge(self, other: "NormSpread") -> "NormSpread":
        """Return the spread of both sets of rows together; their widths must be the same."""
        if not len(self.bins) or not len(other.bins):
            return self if len(self.bins) else other
        bins = np.union1d(self.bins, other.bins).astype(np.int32)
        counts = np.zeros((POSITIONS, len(bins)), np.int64)
        squares = np.zeros((POSITIONS, len(bins)))
        every = classes_of(bins)
        classes = every[_starts(every)]
        class_counts = np.zeros((2, len(classes)), np.int64)
        class_means = np.zeros((2, len(classes), self.class_means.shape[1]))
        class_m2 = np.zeros((2, len(classes)))
        for number, one in enumerate((self, other)):
            at = np.searchsorted(bins, one.bins)
            counts[:, at] += one.counts
            squares[:, at] += one.squares
            at = np.searchsorted(classes, one.classes)
            class_counts[number, at] = one.class_counts
            class_means[number, at] = one.class_means
            class_m2[number, at] = one.class_m2
        merged_means, merged_m2 = _merge_moments(class_counts, class_means, class_m2)
        return NormSpread(
            bins=bins,
            counts=counts,
            squares=squares,
            class_means=merged_means,
            class_m2=merged_m2,
        )

    def quantile(self, share: float, position: int | None = None) -> float:
        """Return the norm below which a share of the rows lies.

        Args:
            share: from 0 to 1.
            position: 0 to 7, or 8 for all others; None: of all rows.

        Returns:
            The norm, off by :data:`QUANTILE_ERROR` at most; 0 where there is no row.
        """
        counts = self.counts.sum(axis=0) if position is None else self.counts[position]
        total = int(counts.sum())
        if not total:
            return 0.0
        rank = min(total, max(1, int(np.ceil(share * total))))
        at = int(self.bins[np.searchsorted(np.cumsum(counts), rank)])
        if at <= norm_bins(np.zeros(1))[0]:
            return 0.0
        return float(2.0 ** ((at + 0.5) / _BINS_AN_OCTAVE))

    def rms(self, position: int | None = None) -> float:
        """Return the root of the mean squared norm, of all rows or at a position."""
        chosen = slice(None) if position is None else position
        total = int(self.counts[chosen].sum())
        return float(np.sqrt(self.squares[chosen].sum() / total)) if total else 0.0

    def class_scatter(self, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of squared distances from ``mean`` of the rows of each class."""
        away = np.square(self.class_means - mean).sum(axis=1)
        return self.class_m2 + self.class_counts * away

    def position_scatter(self, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return about the sum of squared distances from ``mean`` of the rows at each position.

        What a class holds is divided among the positions as its squared norms are: close for rows
        that are far larger than ``mean``, which are those that matter.
        """
        by_class = np.zeros((POSITIONS, len(self.class_m2)))
        if starts := _starts(classes_of(self.bins)).tolist():
            by_class = np.add.reduceat(self.squares, starts, axis=1)
        total = by_class.sum(axis=0)
        shares = np.divide(by_class, total, out=np.zeros_like(by_class), where=total > 0)
        return shares @ self.class_scatter(mean)


def _starts(ascending: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return where each number begins among ascending ones."""
    is_new = np.ones(len(ascending), np.bool_)
    is_new[1:] = ascending[1:] != ascending[:-1]
    return np.flatnonzero(is_new)


def _merge_moments(
    counts: NDArray[np.int64], means: NDArray[np.float64], m2: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means and m2 of two sets of rows together, each array ``[2, groups, ...]``."""
    total = np.maximum(counts.sum(axis=0), 1)
    share = counts[1] / total
    delta = means[1] - means[0]
    mean = means[0] + delta * share[:, None]
    return mean, m2.sum(axis=0) + np.square(delta).sum(axis=1) * (counts[0] * share)


class SpreadSums:
    """The spread of many rows, summed up block by block about shifts; see ``statistics.py``."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._squares: list[NDArray[np.float32]] = []
        self._groups: list[NDArray[np.intp]] = []
        self._class_sums: dict[int, NDArray[np.float64]] = {}
        self._class_powers: dict[int, float] = {}
        self._moments: dict[int, tuple[int, NDArray[np.float64], float]] = {}
        self._counts = np.zeros((POSITIONS, _DENSE_BINS), np.int64)
        self._square_sums = np.zeros((POSITIONS, _DENSE_BINS))

    def add(
        self, rows: NDArray[np.float32], squares: NDArray[np.float32], groups: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Add rows, and return their squares summed by column.

        Args:
            rows: less the shift, ``[rows, width]``; overwritten.
            squares: squared norms of the rows themselves, finite.
            groups: their positions, 8 for all from there on.

        Returns:
            Sums of the squares of ``rows``, ``[width]``.
        """
        self._squares.append(squares)
        self._groups.append(groups)
        powers = np.zeros(self._width)
        low, high = _class_of(float(squares.min())), _class_of(float(squares.max()))
        usual = low
        if low != high:  # the few of other classes are added apart, and blanked
            classes = (np.frexp(np.maximum(squares, _TINY))[1] - 1) // 4
            usual = low + int(np.bincount(classes - low).argmax())
            for number in {*classes[classes != usual].tolist()}:
                chosen = np.flatnonzero(classes == number)
                part = rows[chosen]
                rows[chosen] = 0
                by_column = np.einsum("ij,ij->j", part, part)
                powers += by_column
                self._add_sum(number, part.sum(axis=0), by_column)
        sums, by_column = _sums(rows)
        self._add_sum(usual, sums, by_column)
        return powers + by_column

    def _add_sum(
        self, number: int, sums: NDArray[np.floating], powers: NDArray[np.floating]
    ) -> None:
        if number not in self._class_sums:
            self._class_sums[number] = np.zeros(self._width)
            self._class_powers[number] = 0.0
        self._class_sums[number] += sums
        self._class_powers[number] += float(powers.sum(dtype=np.float64))

    @property
    def squares(self) -> NDArray[np.float32]:
        """Squared norms of all rows."""
        return np.concatenate(self._squares)

    @property
    def sums(self) -> NDArray[np.float64]:
        """Sum of all rows less the shift, ``[width]``."""
        return np.sum(list(self._class_sums.values()), axis=0)

    def settle(self, shift: NDArray[np.float32]) -> None:
        """Count the rows added since the last time, given what was taken off them."""
        squares, groups = self.squares, np.concatenate(self._groups)
        bins = norm_bins(squares)
        low, room = int(bins.min()), int(bins.max()) - int(bins.min()) + 1
        cells = groups * room + (bins.astype(np.intp) - low)
        within = slice(low + _DENSE_BINS // 2, low + _DENSE_BINS // 2 + room)
        size = POSITIONS * room
        self._counts[:, within] += np.bincount(cells, minlength=size).reshape(POSITIONS, room)
        found = np.bincount(cells, squares, size).reshape(POSITIONS, room)
        self._square_sums[:, within] += found
        of = np.bincount(classes_of(bins) - (low >> _CLASS_BITS))
        for number, sums in self._class_sums.items():
            count = int(of[number - (low >> _CLASS_BITS)])
            mean = sums / count
            m2 = max(0.0, self._class_powers[number] - float(np.square(mean).sum()) * count)
            self._add_moments(number, count, mean + shift, m2)
        self._squares, self._groups = [], []
        self._class_sums, self._class_powers = {}, {}

    def _add_moments(self, number: int, count: int, mean: NDArray[np.float64], m2: float) -> None:
        before, other, more = self._moments.get(number, (0, np.zeros(self._width), 0.0))
        delta = mean - other
        share = count / (before + count)
        m2 += more + float(np.square(delta).sum()) * before * share
        self._moments[number] = (before + count, other + delta * share, m2)

    def spread(self) -> NormSpread:
        """Return the spread of all rows counted."""
        there = np.flatnonzero(self._counts.any(axis=0))
        moments = [self._moments[number] for number in sorted(self._moments)]
        if not moments:
            return NormSpread.empty(self._width)
        return NormSpread(
            bins=(there - _DENSE_BINS // 2).astype(np.int32),
            counts=self._counts[:, there],
            squares=self._square_sums[:, there],
            class_means=np.stack([mean for _, mean, _ in moments]),
            class_m2=np.array([m2 for _, _, m2 in moments]),
        )


def _sums(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return sums and sums of squares by column: in float32 within parts, in float64 beyond."""
    whole = len(rows) - len(rows) % PART_ROWS
    # one call for all parts, not one for each: 4 to 11 % of the CPU of all statistics
    parts = rows[:whole].reshape(-1, PART_ROWS, rows.shape[1])
    sums = np.add.reduce(np.add.reduce(parts, axis=1), axis=0, dtype=np.float64)
    squares = np.add.reduce(np.einsum("pij,pij->pj", parts, parts), axis=0, dtype=np.float64)
    if whole < len(rows):
        rest = rows[whole:]
        sums += rest.sum(axis=0)
        squares += np.einsum("ij,ij->j", rest, rest)
    return sums, squares


def exact_spread(rows: NDArray[np.float64], groups: NDArray[np.intp]) -> NormSpread:
    """Return the spread of some rows in float64, which may be huge."""
    if not len(rows):
        return NormSpread.empty(rows.shape[1])
    squares = np.einsum("ij,ij->i", rows, rows)
    bins, at = np.unique(norm_bins(squares), return_inverse=True)
    at = at.reshape(-1)
    numbers = np.unique(classes_of(bins))
    class_of = np.searchsorted(numbers, classes_of(bins)[at])
    class_means, class_m2 = _moments(rows, class_of, len(numbers))
    cells, size = groups * len(bins) + at, POSITIONS * len(bins)
    return NormSpread(
        bins=bins,
        counts=np.bincount(cells, minlength=size).reshape(POSITIONS, -1).astype(np.int64),
        squares=np.bincount(cells, squares, size).astype(np.float64).reshape(POSITIONS, -1),
        class_means=class_means,
        class_m2=class_m2,
    )


def _moments(
    rows: NDArray[np.float64], of: NDArray[np.intp], groups: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    means, m2 = np.zeros((groups, rows.shape[1])), np.zeros(groups)
    for group in np.unique(of).tolist():
        chosen = rows[of == group]
        means[group] = chosen.mean(axis=0)
        m2[group] = np.square(chosen - means[group]).sum()
    return means, m2


def merge_spreads(spreads: Sequence["NormSpread | None"]) -> NormSpread | None:
    """Return the spread of all rows; None where that of some is unknown."""
    total: NormSpread | None = None
    for spread in spreads:
        if spread is None:
            return None
        total = spread if total is None else total.merge(spread)
    return total
