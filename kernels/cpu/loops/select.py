# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportCallIssue=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped, and
# counts a starred argument as one)
"""Exact top-k of rows of pre-activations, by numba, over one chunk of the features after another.

A non-negative float32 orders as its bits do, so rows are compared as int32. A row is folded by
eight into group maxima, once or twice; the value that at least ``k`` groups reach is a lower bound
of the k-th largest element, as is the k-th value so far; only groups that reach the bound are
opened. One pass over the chunk, then a few hundred elements. Rows are lists sorted by (value
descending, feature ascending), and what a chunk offers is merged into them.
"""

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.loops.threads import FAST, parallel_loops

_ROWS = 8
_NAN = np.int32(0x7FC00000)
_INF = np.int32(0x7F800000)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_BUCKETS_PAY = 1024
_NOT_LISTED = np.empty((2, 0), np.int32)


def merge_topk(pre: Tensor, features: Tensor, values: Tensor, indices: Tensor) -> None:
    """Merge a chunk of pre-activations into the best of each row so far; values up to 0 are not.

    Args:
        pre: ``[rows, columns]`` float32, contiguous; NaNs in it are made canonical in place.
        features: int32 ``[2, taking part]``, ascending: the columns that take part, and which
            features they are; above all features merged before.
        values: ``[rows, k]`` float32, sorted; NaN ranks above infinity; 0 where nothing is yet.
        indices: ``[rows, k]`` int32; any, but not uninitialised, where nothing is yet.
    """
    with parallel_loops():
        count = features.shape[1]
        _merge_rows(pre.numpy(), count, 0, features.numpy(), values.numpy(), indices.numpy())


def merge_all(pre: Tensor, count: int, start: int, values: Tensor, indices: Tensor) -> None:
    """:func:`merge_topk` of the first ``count`` columns: the features from ``start`` on."""
    with parallel_loops():
        _merge_rows(pre.numpy(), count, start, _NOT_LISTED, values.numpy(), indices.numpy())


def fill_topk(values: Tensor, indices: Tensor) -> None:
    """Name features at places whose value is 0: the lowest that the row lacks, ascending."""
    if bool((values[:, -1:] == 0).any()):  # rarely: spares the threads a start
        with parallel_loops():
            _fill_rows(values.numpy(), indices.numpy())


def select_topk(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Select the ``k`` largest of each row of ``relu(pre)``; among equals the lowest indices."""
    values = torch.zeros(pre.shape[0], k)
    indices = torch.empty(pre.shape[0], k, dtype=torch.int32)
    merge_all(pre, pre.shape[1], 0, values, indices)
    fill_topk(values, indices)
    return values, indices


@njit(fastmath=FAST, cache=True)
def _fold(source, n, out):
    """Write maxima of groups of eight, element ``i`` in ``i mod (n // 8)``; returns how many."""
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
def _lower_bound(keys, n, k, slack, floor):
    """Find a value that at least ``k`` keys reach, and ties aside at most ``k + slack``.

    ``floor`` is a value that at least ``k`` keys are known to reach.
    """
    top = np.int32(0)
    for i in range(n):
        top = max(top, keys[i])
    low, high = np.int64(floor), np.int64(top) + 1
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
def _sort_descending(entries, n, spare, ends):
    """Sort by insertion, after entries of the same upper bits were put together.

    Among the largest of a row few entries share one of 256 parts of their range: a fifth to a third
    of the time of insertion or of numpy's sort. Scratch: ``spare`` of n, ``ends`` 257.
    """
    if n > _BUCKETS_PAY:
        entries[:n].sort()
        for i in range(n // 2):
            entries[i], entries[n - 1 - i] = entries[n - 1 - i], entries[i]
        return
    low = high = entries[0]
    for i in range(n):
        low, high = min(low, entries[i]), max(high, entries[i])
    shift = np.int64(0)
    while (high - low) >> shift >= ends.size - 1:
        shift += 1
    for i in range(ends.size):
        ends[i] = 0
    for i in range(n):
        ends[((high - entries[i]) >> shift) + 1] += 1
    for i in range(1, ends.size):
        ends[i] += ends[i - 1]
    for i in range(n):
        part = (high - entries[i]) >> shift
        spare[ends[part]] = entries[i]
        ends[part] += 1
    for i in range(n):
        entry = spare[i]
        j = i - 1
        while j >= 0 and entries[j] < entry:
            entries[j + 1] = entries[j]
            j -= 1
        entries[j + 1] = entry


@njit(fastmath=FAST, cache=True)
def _reach(level, size, least, groups):
    """List the groups that reach ``least``; returns how many."""
    count = 0
    for i in range(size):
        if level[i] >= least:
            groups[count] = i
            count += 1
    return count


@njit(fastmath=FAST, cache=True)
def _raise_bound(level, size, k, slack, least):
    if _count(level, size, least) <= k + slack:
        return least
    return _lower_bound(level, size, k, slack, least)


@njit(fastmath=FAST, cache=True)
def _offer(keys, n, k, least, first, second, groups, entries, spare, ends):
    """Fill ``entries`` with the keys that reach ``least`` (> 0), sorted; returns how many, up to k.

    An entry holds the key in its upper half and the complement of the column in its lower. Scratch:
    ``first`` and ``second`` of ``n // 8 + 8`` int32, ``groups`` 2n int32, ``entries`` and
    ``spare`` n int64, ``ends`` 257 int32.
    """
    if n >= 32 * k:
        ones = _fold(keys, n, first)
        if ones >= 32 * k:
            twos = _fold(first, ones, second)
            least = _raise_bound(second, twos, k, k // 8, least)
            count = _open(first, ones, groups, _reach(second, twos, least, groups), least)
        else:
            least = _raise_bound(first, ones, k, k // 8, least)
            count = _reach(first, ones, least, groups)
        count = _open(keys, n, groups, count, least)
    else:
        least = _raise_bound(keys, n, k, k // 8, least)
        count = _reach(keys, n, least, groups)
    for t in range(count):
        column = groups[t]
        entries[t] = (np.int64(keys[column]) << 32) | np.int64(_MAGNITUDE - column)
    if count > 0:
        _sort_descending(entries, count, spare, ends)
    return min(count, k)


@njit(fastmath=FAST, cache=True)
def reached_by(values, k):  # noqa: ANN201 (numba compiles it)
    """Return a number, 0 or more, that at least ``k`` of the values reach; 0 where fewer do.

    Values are float32 without NaN. It is the k-th largest of the maxima of groups of eight or less.
    """
    n = values.size
    keys, maxima = values.view(np.int32), np.empty(n // 8 + 8, np.int32)
    least = np.empty(1, np.int32)
    if n >= 8 * k:
        groups = _fold(keys, n, maxima)
        least[0] = _lower_bound(maxima, groups, k, 0, np.int32(0))
    else:
        least[0] = _lower_bound(keys, n, k, 0, np.int32(0))
    return least.view(np.float32)[0]


@njit(fastmath=FAST, cache=True)
def _merge_row(keys, n, k, scratch, bits, features):
    """Merge one row's chunk into its list; a new entry gets ``-1 - column`` as its feature."""
    first, second, groups, entries, spare, ends, merged, owners = scratch
    if _has_nan(keys, n):
        _canonical_nans(keys, n)
    held = k
    while held > 0 and bits[held - 1] == 0:
        held -= 1
    least = bits[k - 1] + np.int32(1) if held == k else np.int32(1)
    offered = _offer(keys, n, k, np.int32(least), first, second, groups, entries, spare, ends)
    if offered == 0:
        return
    i = j = t = 0
    while t < k and (i < held or j < offered):
        if j >= offered or (i < held and np.int64(bits[i]) >= entries[j] >> 32):
            merged[t], owners[t] = bits[i], features[i]
            i += 1
        else:
            merged[t] = np.int32(entries[j] >> 32)
            owners[t] = np.int32(entries[j] & np.int64(_MAGNITUDE)) - _MAGNITUDE - np.int32(1)
            j += 1
        t += 1
    for i in range(t):  # slices would have numba compile the text of an error, for 2 s
        bits[i] = merged[i]
        features[i] = owners[i]


@njit(fastmath=FAST, cache=True)
def _scratch(n, k):
    return (
        np.empty(n // 8 + 8, np.int32),
        np.empty(n // 8 + 8, np.int32),
        np.empty(2 * n, np.int32),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(257, np.int32),
        np.empty(k, np.int32),
        np.empty(k, np.int32),
    )


@njit(parallel=True, fastmath=FAST, cache=True)
def _merge_rows(pre, n, start, features, values, indices):
    """Merge the first ``n`` columns, which are the features from ``start`` on, or those listed.

    One loop for both, because each that holds :func:`_merge_row` takes 3 s to compile.
    """
    rows, k = values.shape
    listed = features.shape[1] > 0
    for block in prange((rows + _ROWS - 1) // _ROWS):
        scratch = _scratch(n, k)
        gathered = np.empty(features.shape[1], np.int32)
        for row in range(block * _ROWS, min(rows, (block + 1) * _ROWS)):
            keys, owners = pre[row].view(np.int32), indices[row]
            if listed:
                for i in range(n):
                    gathered[i] = keys[features[0, i]]
                keys = gathered
            _merge_row(keys, n, k, scratch, values[row].view(np.int32), owners)
            for j in range(k):
                if owners[j] < 0:
                    place = -1 - owners[j]
                    owners[j] = features[1, place] if listed else start + place


@njit(parallel=True, cache=True)
def _fill_rows(values, indices):
    rows, k = values.shape
    for row in prange(rows):
        if values[row, k - 1] == 0:
            _fill_row(values[row], indices[row], k)


@njit(cache=True)
def _fill_row(values, indices, k):
    found = k
    while found > 0 and values[found - 1] == 0:
        found -= 1
    taken = np.zeros(k, np.bool_)
    for j in range(found):
        if indices[j] < k:
            taken[indices[j]] = True
    feature = 0
    for j in range(found, k):
        while taken[feature]:
            feature += 1
        indices[j] = feature
        feature += 1
