"""Correlation within strata: its interval over sources, and how likely a shuffle gives as much.

With sums U_t, V_t over the rows of stratum t, U_c over those of a cell c (a stratum in a source),
and n_t, n_c rows, the covariance within strata is C = Σuv - Σ_t U_t V_t / n_t. Without source s it
is, with the stratum means taken anew,

    C_(-s) = Σ_(rows not in s) uv - Σ_t (U_t - U_ts)(V_t - V_ts) / (n_t - n_ts)

which differs from C only in the cells of s. Keeping the means (an infinitesimal jackknife) gives
intervals that are too narrow. When the rows are shuffled within strata, C has mean 0 and

    variance        Σ_t S_t(u) S_t(v) / (n_t - 1)          S: centred sum of squares
    third moment    Σ_t n_t / ((n_t - 1)(n_t - 2)) M_t(u) M_t(v)       M: centred sum of cubes

(Pitman 1937). A Pearson III tail with these moments gives the permutation p without a draw; a
normal tail is 5 times too small at the level of .001 for sparse codes.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import pearson3

from isogloss.universality.correlation.moments import row_blocks, shape_of
from isogloss.universality.nulls.intervals import LEAST_SOURCES, Floats, jackknife
from isogloss.universality.nulls.strata import Strata

_DEPTH = 0.3
"""k of the interval's scale."""

_BLOCK_CELLS = 1 << 20
"""Pairs times the larger of strata and sources in one block: 8 MB an array."""

_NOTHING = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Within:
    """What pairs share within strata; every array ``[pairs]``."""

    partial: Floats
    """Correlation within strata; NaN where a feature does not vary there."""
    low: Floats
    """Lower end of its interval over sources; NaN with fewer than ``LEAST_SOURCES``."""
    high: Floats
    """Upper end."""
    p: Floats
    """Chance that a shuffle within strata gives as high a partial correlation; 1 where none."""
    movable: NDArray[np.int64]
    """Firings on rows that are not alone in their stratum, of the feature that has fewer."""


def within_strata(
    a: sp.csr_array, b: sp.csr_array, strata: Strata, sources: Strata, *, confidence: float = 0.9
) -> Within:
    """Measure what each pair shares within strata.

    Args:
        a: codes of each pair's first feature, ``[pairs, rows]``.
        b: codes of each pair's second feature, ``[pairs, rows]``.
        strata: partition of the rows.
        sources: the source of each row.
        confidence: of the two-sided interval over sources.

    Returns:
        The measures, in the order of the pairs.
    """
    pairs, cells = shape_of(a)[0], _Cells.of(strata, sources)
    several = (strata.counts > 1)[strata.label]
    movable = np.minimum(_fires(a, several), _fires(b, several))
    found = Within(
        partial=np.full(pairs, np.nan),
        low=np.full(pairs, np.nan),
        high=np.full(pairs, np.nan),
        p=np.ones(pairs),
        movable=movable,
    )
    for start, stop in row_blocks(pairs, max(1, _BLOCK_CELLS // max(strata.size, sources.size))):
        part = slice(start, stop)
        one, other = cells.sums(a[part]), cells.sums(b[part])
        total, deleted = cells.covariances(one, other)
        partial = _ratio(total)
        found.partial[part] = partial
        found.p[part] = _permutation_p(one, other, total[0], strata)
        if sources.size >= LEAST_SOURCES:
            taken = np.maximum(total[1:, :, None] - deleted[1:], 0.0)
            share = taken / np.maximum(taken.sum(axis=2, keepdims=True), 1e-300)
            low, high = jackknife(
                np.nan_to_num(partial),
                np.nan_to_num(_ratio(deleted)),
                share.mean(axis=0),
                depth=_DEPTH,
                confidence=confidence,
            )
            found.low[part] = np.where(np.isnan(partial), np.nan, low)
            found.high[part] = np.where(np.isnan(partial), np.nan, high)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    """Features ``[pairs, rows]``, and their sums by stratum and by cell."""

    codes: sp.csr_array
    by_stratum: sp.csr_array
    dense: Floats
    """``by_stratum``, ``[pairs, strata]``."""
    by_cell: sp.csr_array
    squares: sp.csr_array
    """Centred sums of squares, ``[pairs, strata]``."""
    cubes: sp.csr_array
    """Centred sums of cubes, ``[pairs, strata]``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cells:
    """The cells (a stratum in a source) that have rows, and how they weigh."""

    strata: Strata
    sources: Strata
    of_row: NDArray[np.int64]
    """Cell of each row, ``[rows]``."""
    count: int
    stratum: NDArray[np.int64]
    """``[cells]``."""
    source: NDArray[np.int64]
    """``[cells]``."""
    rest: Floats
    """1 / (n_t - n_c), 0 where the stratum has no other source, ``[cells]``."""
    lost: sp.csr_array
    """1 / n_t - ``rest``: what U_t V_t loses when the source goes, ``[strata, sources]``."""

    @classmethod
    def of(cls, strata: Strata, sources: Strata) -> "_Cells":
        names, of_row, rows = np.unique(
            strata.label * sources.size + sources.label, return_inverse=True, return_counts=True
        )
        stratum, source = names // sources.size, names % sources.size
        others = strata.counts[stratum] - rows
        rest = np.where(others > 0, 1 / np.maximum(others, 1), 0.0)
        lost = sp.csr_array(
            (1 / strata.counts[stratum] - rest, (stratum, source)),
            shape=(strata.size, sources.size),
        )
        return cls(
            strata=strata,
            sources=sources,
            of_row=of_row.astype(np.int64),
            count=len(names),
            stratum=stratum,
            source=source,
            rest=rest,
            lost=lost,
        )

    def sums(self, codes: sp.csr_array) -> _Sums:
        """Sum features by cell and by stratum. Cells are numbered by stratum: one sort is both."""
        pairs, n = shape_of(codes)[0], self.strata.counts
        cell, data = _sorted(codes, self.of_row, self.count)
        starts = _starts(cell, codes.indptr)
        summed = _sums(data, starts)
        ends = np.searchsorted(starts, codes.indptr)
        cells = sp.csr_array((summed, cell[starts], ends), shape=(pairs, self.count))
        stratum = self.stratum[cell[starts]]
        first = _starts(stratum, ends)
        total, of = _sums(summed, first), n[stratum[first]]
        one = sp.csr_array(
            (total, stratum[first], np.searchsorted(first, ends)), shape=(pairs, self.strata.size)
        )
        two, three = (_sums(data**power, starts[first]) for power in (2, 3))
        mean = total / of
        return _Sums(
            codes=codes,
            by_stratum=one,
            dense=one.toarray(),
            by_cell=cells,
            squares=_with_data(one, np.maximum(two - total * mean, 0.0)),
            cubes=_with_data(one, three - 3 * mean * two + 2 * of * mean**3),
        )

    def covariances(self, one: _Sums, other: _Sums) -> tuple[Floats, Floats]:
        """Return C(a, b), C(a, a), C(b, b): ``[3, pairs]``, without each source ``[3, p, s]``."""
        found = [self._covariance(u, v) for u, v in ((one, other), (one, one), (other, other))]
        return np.stack([whole for whole, _ in found]), np.stack([left for _, left in found])

    def _covariance(self, u: _Sums, v: _Sums) -> tuple[Floats, Floats]:
        products = _product(u.codes, v.codes)
        pooled = _product(u.by_stratum, v.by_stratum)
        whole = products.sum(axis=1) - pooled @ (1 / self.strata.counts)
        own = self._by_source(products, _data(products), self.sources.label)
        crossed = self._crossed(u, v)
        crossed = crossed + (crossed if u is v else self._crossed(v, u))
        both = _product(u.by_cell, v.by_cell)
        crossed -= self._by_source(both, _data(both) * self.rest[both.indices], self.source)
        return whole, whole[:, None] - own + sp.csr_array(pooled @ self.lost).toarray() + crossed

    def _crossed(self, u: _Sums, v: _Sums) -> Floats:
        """Return the sums over a source's cells of U_c V_t / (n_t - n_c), ``[pairs, sources]``."""
        cell, at = u.by_cell.indices, _row_of(u.by_cell)
        weighted = _data(u.by_cell) * v.dense[at, self.stratum[cell]] * self.rest[cell]
        return self._by_source(u.by_cell, weighted, self.source)

    def _by_source(self, matrix: sp.csr_array, data: Floats, source: NDArray[np.int64]) -> Floats:
        pairs, sources = shape_of(matrix)[0], self.sources.size
        place = _row_of(matrix) * sources + source[matrix.indices]
        summed = np.bincount(place, data, minlength=pairs * sources)
        return summed.astype(np.float64).reshape(pairs, sources)  # of no entry: integers


def _permutation_p(one: _Sums, other: _Sums, covariance: Floats, strata: Strata) -> Floats:
    """Return the upper tail of C(a, b) under shuffles within strata; 1 where nothing moves."""
    n = strata.counts.astype(np.float64)
    second = np.where(n > 1, 1 / np.maximum(n - 1, 1), 0.0)
    third = np.where(n > 2, n / np.maximum((n - 1) * (n - 2), 1), 0.0)
    variance = np.asarray(one.squares.multiply(other.squares).tocsr() @ second)
    cubed = np.asarray(one.cubes.multiply(other.cubes).tocsr() @ third)
    moves = variance > 0
    scale = np.where(moves, variance, 1.0)
    tail = pearson3.sf(covariance / np.sqrt(scale), cubed / scale**1.5)
    return np.where(moves, np.clip(tail, 0.0, 1.0), 1.0)


def _ratio(covariances: Floats) -> Floats:
    """Return C(a, b) / √(C(a, a) C(b, b)); NaN where one of these is 0."""
    ab, aa, bb = covariances
    some = (aa > _NOTHING) & (bb > _NOTHING)
    scale = np.sqrt(np.where(some, aa * bb, 1.0))
    return np.where(some, np.clip(ab / scale, -1.0, 1.0), np.nan)


def _sorted(
    codes: sp.csr_array, group: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], Floats]:
    """Return group and value of each entry, those of one feature sorted by the group."""
    place = np.arange(codes.nnz)
    matrix = sp.csr_array(
        (place, group[codes.indices], codes.indptr), shape=(shape_of(codes)[0], size), copy=True
    )
    matrix.sort_indices()
    return matrix.indices.astype(np.int64), _data(codes)[np.asarray(matrix.data, np.int64)]


def _starts(group: NDArray[np.int64], lines: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return where entries of one feature and group begin; ``lines`` are where features do."""
    begins = np.ones(len(group), np.bool_)
    begins[1:] = group[1:] != group[:-1]
    begins[lines[:-1][lines[:-1] < len(group)]] = True
    return np.flatnonzero(begins).astype(np.int64)


def _sums(data: Floats, starts: NDArray[np.int64]) -> Floats:
    return np.add.reduceat(data, starts) if len(starts) else np.zeros(0)


def _product(u: sp.csr_array, v: sp.csr_array) -> sp.csr_array:
    """Return the entries of both multiplied."""
    return _with_data(u, _data(u) ** 2) if u is v else u.multiply(v).tocsr()


def _with_data(matrix: sp.csr_array, data: Floats) -> sp.csr_array:
    return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _data(matrix: sp.csr_array) -> Floats:
    return np.asarray(matrix.data, np.float64)


def _row_of(matrix: sp.csr_array) -> NDArray[np.int64]:
    return np.repeat(np.arange(shape_of(matrix)[0]), np.diff(matrix.indptr))


def _fires(codes: sp.csr_array, counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    pairs = shape_of(codes)[0]
    return np.bincount(_row_of(codes), counted[codes.indices], minlength=pairs).astype(np.int64)
