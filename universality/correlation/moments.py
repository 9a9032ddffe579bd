"""Sparse codes as matrices, and the sums of each feature that every correlation is made of.

Codes must not be negative. Then two features that never fire together have Σab = 0 and so r <= 0,
and the stored cross products hold every candidate with r > 0. ``codes_matrix`` refuses signed
codes, because for them this does not hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.short_repr import short_repr

_CONSTANT = 1e-12
"""A feature whose variance is below this share of its mean square is constant: r = 0."""


@runtime_checkable
class SparseRows(Protocol):
    """Compressed sparse rows, as the ``Csr`` that the store returns."""

    @property
    def indptr(self) -> NDArray[np.int64]:
        """Position in ``indices`` and ``values`` where each row begins, ``[rows + 1]``."""
        ...

    @property
    def indices(self) -> NDArray[np.int32]:
        """Column of each entry."""
        ...

    @property
    def values(self) -> NDArray[np.float32]:
        """Activation of each entry."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Sums of every feature over the same rows."""

    rows: int
    """How many rows were summed."""
    total: NDArray[np.float64]
    """Σa, ``[features]``."""
    squares: NDArray[np.float64]
    """Σa², ``[features]``."""
    fires: NDArray[np.int64]
    """Rows on which the feature is above zero, ``[features]``."""

    __repr__ = short_repr

    @cached_property
    def spread(self) -> NDArray[np.float64]:
        """√(n Σa² - (Σa)²), ``[features]``; 0 where the feature is constant."""
        mean_square = self.rows * self.squares
        variance = mean_square - self.total**2
        return np.sqrt(np.where(variance > _CONSTANT * mean_square, variance, 0.0))


def shape_of(matrix: sp.csr_array) -> tuple[int, int]:
    """Return rows and columns of a sparse matrix, as the integers that they are."""
    rows, columns = matrix.shape  # pyright: ignore[reportGeneralTypeIssues]  # scipy: "or None"
    return int(rows), int(columns)


def codes_matrix(codes: SparseRows, columns: int) -> sp.csr_array:
    """Return sparse codes as a float64 matrix that the functions here take.

    Row-major codes (``CodesFile.row_slice``) give ``[rows, features]``, feature-major codes
    (``CodesFile.feature_slice``) give ``[features, rows]``.

    Args:
        codes: compressed sparse rows.
        columns: number of columns.

    Returns:
        A copy without stored zeros: ``[len(indptr) - 1, columns]``, float64.

    Raises:
        InvalidInput: a value is negative or not finite.
        ShapeError: a column index is outside ``[0, columns)``.
    """
    values = np.asarray(codes.values, dtype=np.float64)
    if values.size and not (np.isfinite(values).all() and values.min() >= 0):
        raise InvalidInput(
            "codes hold a negative or non-finite activation; matching needs activations >= 0 "
            "(features that never fire together are taken to have r <= 0): encode with a "
            "dictionary whose codes pass through ReLU or TopK"
        )
    indices = np.asarray(codes.indices)
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < columns:
        found = f"[{indices.min()}, {indices.max()}]"
        raise ShapeError(f"column indices {found} must lie in [0, {columns}); re-encode the codes")
    shape = (len(codes.indptr) - 1, columns)
    matrix = sp.csr_array((values, indices, np.asarray(codes.indptr)), shape=shape, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def moments(features: sp.csr_array) -> Moments:
    """Sum every feature over its rows, in float64.

    Args:
        features: feature-major codes, ``[features, rows]``.

    Returns:
        The sums.
    """
    ones = np.ones(shape_of(features)[1])
    return Moments(
        rows=shape_of(features)[1],
        total=np.asarray(features @ ones),
        squares=np.asarray(_squared(features) @ ones),
        fires=np.diff(features.indptr).astype(np.int64),
    )


def _squared(matrix: sp.csr_array) -> sp.csr_array:
    return sp.csr_array((matrix.data**2, matrix.indices, matrix.indptr), shape=matrix.shape)


def row_blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut ``count`` rows into blocks of ``size`` and yield where each begins and ends."""
    for start in range(0, count, size):
        yield start, min(start + size, count)
