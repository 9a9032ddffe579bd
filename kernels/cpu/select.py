# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped)
"""Exact top-k of rows of pre-activations, by numba.

A non-negative float32 orders as its bits do, so rows are compared as int32. Rows are folded by eight
into group maxima, once or twice; the value that at least ``k`` groups reach is a lower bound of the
k-th largest element, and only groups that reach it are opened. One pass over the row, then a few
hundred elements.
"""

import numpy as np
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.threads import FAST, parallel_loops

_ROWS = 8
_NAN = np.int32(0x7FC00000)
_INF = np.int32(0x7F800000)
_MAGNITUDE = np.int32(0x7FFFFFFF)


def select_topk(pre: Tensor, k: int, values: Tensor, indices: Tensor) -> None:
    """Write the ``k`` largest of each row of ``relu(pre)``, by value descending, then feature ascending.

    Args:
        pre: ``[rows, features]`` float32, contiguous; NaNs in it are made canonical in place.
        k: at most ``features``.
        values: out, ``[rows, k]`` float32; NaN ranks above infinity.
        indices: out, ``[rows, k]`` int32.
    """
    with parallel_loops():
        _select_rows(pre.numpy(), k, values.numpy(), indices.numpy())


def select_among(pre: Tensor, candidates: Tensor, values: Tensor, indices: Tensor) -> None:
    """:func:`select_topk` among some features only; ``k`` is the number of columns of ``values``.

    ``candidates``: int32, ascending, at least ``k``; NaNs in ``pre`` were made canonical before.
    """
    with parallel_loops():
        _select_among(pre.numpy(), candidates.numpy(), values.numpy(), indices.numpy())


@njit(fastmath=FAST, cache=True)
def _fold(source, n, out):
    """Maxima of groups of eight (element ``i`` is in group ``i mod (n // 8)``); returns their number."""
    g = n // 8
    b1, b2, b3, b4, b5, b6, b7 = g, 2 * g, 3 * g, 4 * g, 5 * g, 6 * g, 7 * g
    for i in range(g):
        low = max(max(source[i], source[b1 + i]), max(source[b2 + i], source[b3 + i]))
        high = max(max(source[b4 + i], source[b5 + i]), max(source[b6 + i], source[b7 + i]))
        out[i] = max(low, high)
    rest = n - 8 * g
    for i in range(rest):
        out[g + i] = source[8 * g + i]
    return g + rest


@njit(fastmath=FAST, cache=True)
def _open(source, n, groups, count, least):
    """Replace groups by those of their elements that reach ``least``; returns how many.

    ``groups`` is read from its end half and written from its start, so it holds twice the elements.
    """
    g = n // 8
    half = groups.size // 2
    for t in range(count):
        groups[half + t] = groups[t]
    found = 0
    for t in range(count):
        group = groups[half + t]
        if group < g:
            for j in range(8):
                if source[group + j * g] >= least:
                    groups[found] = group + j * g
                    found += 1
        else:
            groups[found] = 7 * g + group
            found += 1
    return found


@njit(fastmath=FAST, cache=True)
def _count(keys, n, least):
    total = np.int32(0)
    for i in range(n):
        total = np.int32(total + np.int32(keys[i] >= least))
    return total


@njit(fastmath=FAST, cache=True)
def _lower_bound(keys, n, k, slack):
    """A value that at least ``k`` keys reach and at most ``k + slack`` (ties aside); 0 if none is > 0."""
    top = np.int32(0)
    for i in range(n):
        top = max(top, keys[i])
    if _count(keys, n, np.int32(1)) < k:
        return np.int32(0)
    low, high = np.int64(1), np.int64(top) + 1
    while high - low > 1:
        middle = (low + high) // 2
        reached = _count(keys, n, np.int32(middle))
        if reached >= k:
            low = middle
            if reached <= k + slack:
                break
        else:
            high = middle
    return np.int32(low)


@njit(fastmath=FAST, cache=True)
def _canonical_nans(keys, n):
    for i in range(n):
        if keys[i] & _MAGNITUDE > _INF:
            keys[i] = _NAN


@njit(fastmath=FAST, cache=True)
def _has_nan(keys, n):
    largest = np.int32(0)
    for i in range(n):
        largest = max(largest, keys[i] & _MAGNITUDE)
    return largest > _INF


@njit(fastmath=FAST, cache=True)
def _sort_descending(entries, n):
    if n > 64:
        entries[:n].sort()
        for i in range(n // 2):
            entries[i], entries[n - 1 - i] = entries[n - 1 - i], entries[i]
        return
    for i in range(1, n):
        entry = entries[i]
        j = i - 1
        while j >= 0 and entries[j] < entry:
            entries[j + 1] = entries[j]
            j -= 1
        entries[j + 1] = entry


@njit(fastmath=FAST, cache=True)
def _fill_with_zeros(found, n, k, values, indices):
    """Complete a row that has fewer than ``k`` positive elements by its lowest other features."""
    feature = 0
    taken = np.zeros(n, np.bool_)
    for j in range(found):
        taken[indices[j]] = True
    for j in range(found, k):
        while taken[feature]:
            feature += 1
        values[j] = np.float32(0)
        indices[j] = feature
        feature += 1


@njit(fastmath=FAST, cache=True)
def select_row(keys, n, k, first, second, groups, entries, values, indices):
    """Top-k of one row given as int32 bits; see the module's first lines.

    ``first`` and ``second`` hold ``n // 8 + 8`` int32 each, ``groups`` 2n int32, ``entries`` n int64.
    """
    if _has_nan(keys, n):
        _canonical_nans(keys, n)
    least = np.int32(0)
    count = 0
    if n >= 32 * k:
        ones = _fold(keys, n, first)
        if ones >= 32 * k:
            twos = _fold(first, ones, second)
            least = _lower_bound(second, twos, k, k // 8)
            if least > 0:
                for i in range(twos):
                    if second[i] >= least:
                        groups[count] = i
                        count += 1
                count = _open(first, ones, groups, count, least)
        else:
            least = _lower_bound(first, ones, k, k // 8)
            if least > 0:
                for i in range(ones):
                    if first[i] >= least:
                        groups[count] = i
                        count += 1
        if least > 0:
            count = _open(keys, n, groups, count, least)
    if least <= 0:  # too few positive groups, or a short row: look at every element
        least = max(_lower_bound(keys, n, k, 0), np.int32(1))
        for i in range(n):
            if keys[i] >= least:
                groups[count] = i
                count += 1
    for t in range(count):
        feature = groups[t]
        entries[t] = (np.int64(keys[feature]) << 32) | np.int64(_MAGNITUDE - feature)
    _sort_descending(entries, count)
    found = min(count, k)
    as_bits = values.view(np.int32)
    for j in range(found):
        as_bits[j] = np.int32(entries[j] >> 32)
        indices[j] = _MAGNITUDE - np.int32(entries[j] & np.int64(_MAGNITUDE))
    if found < k:
        _fill_with_zeros(found, n, k, values, indices)


@njit(parallel=True, fastmath=FAST, cache=True)
def _select_rows(pre, k, values, indices):
    rows, n = pre.shape
    for block in prange((rows + _ROWS - 1) // _ROWS):
        first = np.empty(n // 8 + 8, np.int32)
        second = np.empty(n // 8 + 8, np.int32)
        groups = np.empty(2 * n, np.int32)
        entries = np.empty(n, np.int64)
        for row in range(block * _ROWS, min(rows, (block + 1) * _ROWS)):
            keys = pre[row].view(np.int32)
            select_row(keys, n, k, first, second, groups, entries, values[row], indices[row])


@njit(parallel=True, fastmath=FAST, cache=True)
def _select_among(pre, candidates, values, indices):
    rows = pre.shape[0]
    n, k = candidates.size, values.shape[1]
    for block in prange((rows + _ROWS - 1) // _ROWS):
        first = np.empty(n // 8 + 8, np.int32)
        second = np.empty(n // 8 + 8, np.int32)
        groups = np.empty(2 * n, np.int32)
        entries = np.empty(n, np.int64)
        keys = np.empty(n, np.int32)
        for row in range(block * _ROWS, min(rows, (block + 1) * _ROWS)):
            bits = pre[row].view(np.int32)
            for i in range(n):
                keys[i] = bits[candidates[i]]
            select_row(keys, n, k, first, second, groups, entries, values[row], indices[row])
            for j in range(k):
                indices[row, j] = candidates[indices[row, j]]
