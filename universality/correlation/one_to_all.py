"""One feature and all features of a dictionary: their products, from row-major codes.

A feature fires on few rows, and few features fire on each: Σab of one feature with every other is
found from the rows on which it fires, in about ``fires * k`` multiplications.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.universality.correlation.moments import Moments, SparseRows


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """Chosen rows of compressed sparse rows."""

    lengths: NDArray[np.int64]
    """Entries of each chosen row."""
    indices: NDArray[np.int32]
    """Column of each entry, row after row."""
    values: NDArray[np.float32]
    """Activation of each entry."""


def take_lines(codes: SparseRows, chosen: NDArray[np.integer] | Sequence[int]) -> Lines:
    """Return chosen rows of codes, in the order given.

    Args:
        codes: compressed sparse rows, in memory.
        chosen: numbers of rows, each in range.

    Returns:
        Their entries.
    """
    at = np.asarray(chosen, np.int64)
    start, lengths = codes.indptr[at], codes.indptr[at + 1] - codes.indptr[at]
    shift = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    entry = np.repeat(start - shift[:-1], lengths) + np.arange(shift[-1])
    return Lines(lengths=lengths, indices=codes.indices[entry], values=codes.values[entry])


def sum_products(
    rows: NDArray[np.integer], activation: NDArray[np.floating], by_row: SparseRows, features: int
) -> NDArray[np.float64]:
    """Return Σab of one feature with every feature of a dictionary, in float64.

    Args:
        rows: rows on which the feature fires, ``[fires]``.
        activation: how strongly, ``[fires]``.
        by_row: row-major codes of the dictionary.
        features: how many features it has.

    Returns:
        ``[features]``.
    """
    lines = take_lines(by_row, rows)
    weighted = lines.values * np.repeat(activation.astype(np.float64), lines.lengths)
    return np.bincount(lines.indices, weighted, minlength=features).astype(np.float64)


def without_rows(sums: Moments, gone: NDArray[np.integer], by_row: SparseRows) -> Moments:
    """Return the sums over all rows but some.

    Args:
        sums: sums over all rows.
        gone: rows to leave out, each once, of those that were summed.
        by_row: row-major codes.

    Returns:
        The sums over the rest; exactly 0 for a feature that fires on none of it.
    """
    lines, features = take_lines(by_row, gone), len(sums.total)
    values = lines.values.astype(np.float64)
    fires = sums.fires - np.bincount(lines.indices[values > 0], minlength=features)
    total = sums.total - np.bincount(lines.indices, values, minlength=features)
    squares = sums.squares - np.bincount(lines.indices, values**2, minlength=features)
    return Moments(
        rows=sums.rows - len(gone),
        total=np.where(fires > 0, total, 0.0),
        squares=np.where(fires > 0, squares, 0.0),
        fires=fires,
    )
