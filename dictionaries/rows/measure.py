"""Mean and variance of the rows that a run trains on, and the scales that follow from them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.dictionaries.config import LeaveOut
from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.rows.batches import NON_FINITE_REMEDY, as_tensor, spread
from isogloss.dictionaries.rows.joined import SourceRows
from isogloss.dictionaries.rows.usual import FAR, SAMPLE_ROWS, UsualRows
from isogloss.dictionaries.wirings.wiring import WiredColumns, site_columns
from isogloss.errors import InvalidInput, NonFiniteRows

_LOG = logging.getLogger(__name__)
_SAMPLE_ROWS = 1 << 17
_CHUNK_ROWS = 1 << 13
_MANY = 0.2
"""Where a larger share of the rows is far, far rows are not left out unless it is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """What a run knows of its rows before the first step."""

    normalisation: Normalisation
    """Mean and variance of the scaled usual rows."""
    scales: tuple[float, ...]
    """Factor of each site."""
    usual: tuple[UsualRows, ...]
    """Which raw rows of each site are usual."""
    leave_out: bool
    """Whether rows that are not usual are left out of training."""
    full_variance: float
    """Total variance of the scaled rows that are reconstructed, of all rows trained on: that of the
    usual ones where the others are left out."""


def measure_rows(
    joined: SourceRows,
    keep: NDArray[np.bool_],
    connection: WiredColumns,
    leave_out: LeaveOut | None = None,
) -> Measured:
    """Measure mean and variance of at most 131,072 evenly spaced training rows.

    The scale of a site makes the mean squared distance of its rows from their mean equal to its
    width, so a constant offset of a column does not change it. Rows that are far from all others
    (``FAR`` times the median distance at some site, see :class:`UsualRows`) are not measured, and a
    warning says so: one of them would set the scale for all the others.

    Sums are numpy's, in float64 and one thread: the bits do not depend on the thread count.

    Args:
        joined: the sites, whose columns lie side by side.
        keep: rows that are trained on, ``[rows]``.
        connection: columns that are read and that are reconstructed.
        leave_out: which rows the user wants to be left out; None: the default.

    Raises:
        InvalidInput: the rows do not vary.
        NonFiniteRows: a row holds NaN or infinity.
    """
    leave_out = leave_out or LeaveOut()
    rows = spread(np.flatnonzero(keep).astype(np.int64), _SAMPLE_ROWS)
    chunks, parts = _Chunks(joined, rows, leave_out), site_columns(joined.widths)
    some = chunks.of(spread(rows, SAMPLE_ROWS))
    if not len(some):
        chunks.refuse()
    usual = tuple(
        UsualRows.of(some[:, part.start : part.stop], leave_out.max_norm or FAR) for part in parts
    )
    sums = _Sums(some.shape[1], usual, parts)
    chunks.add_to(sums)
    far, finite = sums.all_rows - sums.rows, sums.all_rows
    asked = leave_out.max_norm is not None
    leaves_out = leave_out.max_norm != 0 and (asked or far <= _MANY * finite)
    if far:
        _say_far(joined.name, far, finite, leave_out.max_norm or FAR, leaves_out=leaves_out)
    _say_non_finite(joined.name, len(rows) - finite, len(rows))
    variances = sums.variances()
    scales = tuple(_scale(variances, sums.largest, part, joined.name, len(rows)) for part in parts)
    every = sums.full_variances() if far and not leaves_out else variances
    per_column = np.repeat(scales, joined.widths)
    writes = slice(connection.writes.start, connection.writes.stop)
    return Measured(
        normalisation=_normalisation(
            scales,
            parts,
            connection,
            variance=float((variances * np.square(per_column))[writes].sum()),
            mean=torch.from_numpy(sums.mean() * per_column),
        ),
        scales=scales,
        usual=usual,
        leave_out=leaves_out,
        full_variance=float((every * np.square(per_column))[writes].sum()),
    )


def restored_normalisation(
    scales: Sequence[float],
    widths: Sequence[int],
    connection: WiredColumns,
    *,
    variance: float,
    mean: Tensor,
) -> Normalisation:
    """Return the normalisation that a checkpoint holds the numbers of."""
    parts = site_columns(widths)
    return _normalisation(scales, parts, connection, variance=variance, mean=mean)


def _normalisation(
    scales: Sequence[float],
    parts: Sequence[range],
    connection: WiredColumns,
    *,
    variance: float,
    mean: Tensor,
) -> Normalisation:
    written = [s for s, part in zip(scales, parts, strict=True) if part.start in connection.writes]
    scale = written[0]
    if any(one != scale for one in written):
        scale = float(np.exp(np.log(written).mean()))
    if all(one == scale for one in scales):
        return Normalisation(scale=scale, variance=variance, mean=mean)
    factors = np.repeat(np.asarray(scales) / scale, [len(part) for part in parts])
    reads, writes = (
        torch.from_numpy(factors[part.start : part.stop].astype(np.float32))
        for part in (connection.reads, connection.writes)
    )
    return Normalisation(scale=scale, variance=variance, mean=mean, reads=reads, writes=writes)


class _Sums:
    """Sums over the usual rows about the centre, and over all rows."""

    def __init__(self, width: int, usual: Sequence[UsualRows], parts: Sequence[range]) -> None:
        self.rows = 0
        self.largest = np.zeros(width)
        self._usual, self._parts = usual, parts
        self._centre = np.concatenate([one.centre for one in usual])
        self._total, self._squares = np.zeros(width), np.zeros(width)
        self.all_rows = 0
        self._all_total, self._all_squares = np.zeros(width), np.zeros(width)

    def add(self, values: NDArray[np.float64]) -> None:
        self.largest = np.maximum(self.largest, np.abs(values).max(axis=0))
        is_usual = np.ones(len(values), dtype=np.bool_)
        for one, part in zip(self._usual, self._parts, strict=True):
            is_usual &= one.mask(values[:, part.start : part.stop])
        centred = values - self._centre
        squares = np.square(centred)
        self.all_rows += len(values)
        self._all_total += centred.sum(axis=0)
        self._all_squares += squares.sum(axis=0)
        self.rows += int(is_usual.sum())
        self._total += centred[is_usual].sum(axis=0)
        self._squares += squares[is_usual].sum(axis=0)

    def mean(self) -> NDArray[np.float64]:
        return self._centre + self._total / self.rows

    def variances(self) -> NDArray[np.float64]:
        return self._squares / self.rows - np.square(self._total / self.rows)

    def full_variances(self) -> NDArray[np.float64]:
        return self._all_squares / self.all_rows - np.square(self._all_total / self.all_rows)


def _scale(
    variances: NDArray[np.float64], largest: NDArray[np.float64], part: range, name: str, rows: int
) -> float:
    """Return the factor of a site, InvalidInput where its rows do not vary."""
    own = slice(part.start, part.stop)
    variance = float(variances[own].sum())
    noise = np.finfo(np.float32).eps * largest[own]  # what float32 makes of a constant column
    if variance <= float(np.square(noise).sum()):
        raise InvalidInput(
            f"the {rows} training rows of site {name} do not vary (columns {part.start} to "
            f"{part.stop}); there is nothing to learn: check what the hook of this site records"
        )
    return float((len(part) / variance) ** 0.5)


def _say_non_finite(name: str, count: int, rows: int) -> None:
    if count:
        text = "%d of %d rows of site %s hold NaN or infinity and are left out"
        _LOG.warning(text, count, rows, name)


def _say_far(name: str, far: int, rows: int, limit: float, *, leaves_out: bool) -> None:
    _LOG.warning(
        "%d of %d rows of site %s lie more than %g times as far from the centre as the median row "
        "does: mean, variance and scale are those of the other rows, and training %s",
        far,
        rows,
        name,
        limit,
        "leaves such rows out (leave_out.max_norm = 0 takes them in)"
        if leaves_out
        else "takes them in (leave_out.max_norm = 10 would leave them out)",
    )


class _Chunks:
    """Rows of all sites side by side, float64."""

    def __init__(self, joined: SourceRows, rows: NDArray[np.int64], leave_out: LeaveOut) -> None:
        self._joined, self._rows, self._leave_out = joined, rows, leave_out

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return some of the rows; those that are not finite are left out or refused.

        Raises:
            NonFiniteRows: a row is not finite, and such rows are not left out.
        """
        values = self._taken(rows)
        finite = np.isfinite(values).all(axis=1)
        if not finite.all() and not self._leave_out.non_finite:
            self.refuse()
        return values[finite]

    def add_to(self, sums: _Sums) -> None:
        """Add all of the rows to sums."""
        for start in range(0, len(self._rows), _CHUNK_ROWS):
            if len(values := self.of(self._rows[start : start + _CHUNK_ROWS])):
                sums.add(values)

    def _taken(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        joined = self._joined
        every = range(len(joined.sources))
        parts = [as_tensor(joined.take(place, rows)).to(torch.float64).numpy() for place in every]
        return np.concatenate(parts, axis=1)

    def refuse(self) -> NoReturn:
        """Count the rows that are not finite among all that are measured, and name the first.

        Raises:
            NonFiniteRows: always.
        """
        bad: list[NDArray[np.int64]] = []
        for start in range(0, len(self._rows), _CHUNK_ROWS):
            some = self._rows[start : start + _CHUNK_ROWS]
            bad.append(some[~np.isfinite(self._taken(some)).all(axis=1)])
        found = np.concatenate(bad)
        raise NonFiniteRows(
            f"{len(found):,} of {len(self._rows):,} rows of site {self._joined.name}, such as row "
            f"{int(found[0])}, hold NaN or infinity; wanted finite activations: {NON_FINITE_REMEDY}"
        )
