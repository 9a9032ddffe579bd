# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped)
"""encode_batch_topk on the CPU: one pass over chunks of pre-activations, with a rising bound.

Entries are compared as the int32 of their float32. A histogram of the upper 16 bits, over all
entries so far that reach the bound, says which value the ``k * rows``-th largest of them reaches:
that value is a lower bound of the last one's, and it only rises. Entries of the chunk that reach it
join a pool; a pool of more than twice the wanted number is cut to exactly that, by (value
descending, row, feature). Cutting loses nothing: the best of the whole are among the best of a part
and the rest.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from isogloss.kernels.cpu.loops.chunks import Chunk, chunks
from isogloss.kernels.cpu.loops.listed import BestListed
from isogloss.kernels.cpu.loops.threads import FAST, parallel_loops
from isogloss.kernels.cpu.threshold import BLOCK, Firing, firing, marked
from isogloss.kernels.values.codes import Codes
from isogloss.kernels.values.share import RowShare, best_codes
from isogloss.kernels.values.workspace import Workspace

_SHIFT = 15
_BINS = 1 << 16
_SLICES = 8
_INF = np.int32(0x7F800000)
_NAN = np.int32(0x7FC00000)
_MAGNITUDE = np.int32(0x7FFFFFFF)


class _Pool(NamedTuple):
    """Entries that may be chosen."""

    keys: NDArray[np.int32]
    """Bits of each value."""
    places: NDArray[np.int64]
    """``row * features + feature``."""


def encode_batch_topk(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: int,
    workspace: Workspace,
    scale: Tensor | None = None,
    hint: float = 0.0,
    share: RowShare | None = None,
    all_rows: int | None = None,
    listed: BestListed | None = None,
) -> tuple[Codes, Tensor]:
    """``isogloss.kernels.encode_batch_topk``: the codes and their smallest value.

    Beside 24 MiB of pre-activations it holds ``2 * k * rows`` entries of 12 bytes, and those that
    one chunk adds.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
        k: mean entries a row.
        workspace: scratch memory to reuse between calls.
        scale: a factor of each feature's pre-activations, float32 ``[features]``; None: 1.
        hint: a value that the smallest one chosen is thought to reach; 0: none is known. It decides
            how long the choice takes and nothing else: where it is too high, all is done again.
        share: processes that each encode a part of a batch; None: ``x`` is the batch.
        all_rows: rows of the batch, where ``x`` is a part of it.
        listed: takes the best of each row among some features from the same chunks; None: no list.

    Returns:
        The codes of the batch, ragged, and their smallest value.
    """
    rows, features = x.shape[0], weight.shape[0]
    batch = rows if all_rows is None else all_rows
    wanted = k * batch
    inputs = (x.float(), weight.float(), bias.float(), workspace, scale)
    pool = None
    if hint > 0:
        pool = _above(inputs, wanted, int(np.float32(hint).view(np.int32)), listed)
        listed = None  # every chunk was merged
    if pool is None or _everywhere(pool.keys.size, share) < wanted:
        pool = _rising(inputs, wanted, listed)
    codes, smallest = _codes(_best(pool, wanted), rows, features)
    return (codes, smallest) if share is None else best_codes(codes, share, wanted, batch)


def _everywhere(count: int, share: RowShare | None) -> int:
    """Return a number summed over the processes."""
    return count if share is None else int(share.total(torch.tensor([count])))


_Inputs = tuple[Tensor, Tensor, Tensor, Workspace, Tensor | None]


def _above(inputs: _Inputs, wanted: int, least: int, listed: BestListed | None) -> _Pool:
    """Return all entries of at least ``least``, or the best ``wanted`` of them and some others.

    With a bound that is known beforehand no histogram is needed: at 1024 x 384 -> 12288, k = 32,
    half of the time beside the GEMM.
    """
    pool = _Pool(np.empty(0, np.int32), np.empty(0, np.int64))
    features = inputs[1].shape[0]
    for chunk in _heard(inputs, listed):
        limits = _limits(chunk, least)
        pool = _joined(pool, chunk, firing(chunk, limits, marked(chunk, limits)), features)
        if pool.keys.size > 4 * wanted:
            pool = _best(pool, wanted)
            least = max(least, int(pool.keys.min()))
    return pool


def _rising(inputs: _Inputs, wanted: int, listed: BestListed | None) -> _Pool:
    """Return entries that hold the best ``wanted``, by a bound that rises from chunk to chunk."""
    histogram = np.zeros(_BINS, np.int64)
    pool = _Pool(np.empty(0, np.int32), np.empty(0, np.int64))
    least, features = 1, inputs[1].shape[0]
    for chunk in _heard(inputs, listed):
        if least == 1:  # an eighth of the rows gives a bound that spares most of the others
            few = chunk._replace(pre=chunk.pre[: -(-chunk.pre.shape[0] // 8)])
            least = _bound(_histogram(few, marked(few, _limits(few, least)), least), wanted)
        marks = marked(chunk, _limits(chunk, least))
        histogram += _histogram(chunk, marks, least)
        least = max(least, _bound(histogram, wanted))
        pool = _joined(pool, chunk, firing(chunk, _limits(chunk, least), marks), features)
        if pool.keys.size > 2 * wanted:
            pool = _best(pool, wanted)
    return pool


def _heard(inputs: _Inputs, listed: BestListed | None) -> Iterator[Chunk]:
    """Yield the chunks of pre-activations, after a list has taken what it wants of each."""
    for chunk in chunks(*inputs):
        if listed is not None:
            listed.merge(chunk)
        yield chunk


def _joined(pool: _Pool, chunk: Chunk, found: Firing, features: int) -> _Pool:
    """Return the pool with the entries of a chunk."""
    row = torch.arange(chunk.rows.start, chunk.rows.stop).repeat_interleave(found.counts)
    places = (row * features + found.indices).numpy()
    return _Pool(
        np.concatenate((pool.keys, found.values.view(torch.int32).numpy())),
        np.concatenate((pool.places, places)),
    )


def _limits(chunk: Chunk, least: int) -> Tensor:
    """Limits that entries of at least ``least`` exceed, int32 ``[chunk.size]``."""
    return torch.full((chunk.size,), least - 1, dtype=torch.int32)


def _histogram(chunk: Chunk, marks: Tensor, least: int) -> NDArray[np.int64]:
    """Entries of the marked blocks that reach ``least``, by their upper bits, int64 ``[bins]``."""
    partial = np.zeros((_SLICES, _BINS), np.int32)
    keys = chunk.pre.view(torch.int32).numpy()
    with parallel_loops():
        _add_histogram(keys, marks.numpy(), chunk.size, np.int32(least), partial)
    return partial.sum(0)


def _bound(histogram: NDArray[np.int64], wanted: int) -> int:
    """The largest edge of a bin that ``wanted`` entries reach; 1 where there are fewer."""
    reaching = histogram[::-1].cumsum()
    if reaching[-1] < wanted:
        return 1
    place = _BINS - 1 - int(np.searchsorted(reaching, wanted))
    return max(1, place << _SHIFT)


def _best(pool: _Pool, wanted: int) -> _Pool:
    """The ``wanted`` best by (value descending, place ascending)."""
    size = pool.keys.size
    if size <= wanted:
        return pool
    last = np.partition(pool.keys, size - wanted)[size - wanted]
    kept = pool.keys > last
    ties = (pool.keys == last).nonzero()[0]
    room = wanted - int(kept.sum())
    kept[ties[np.argsort(pool.places[ties], kind="stable")[:room]]] = True
    return _Pool(pool.keys[kept], pool.places[kept])


def _codes(pool: _Pool, rows: int, features: int) -> tuple[Codes, Tensor]:
    order = np.argsort(pool.places, kind="stable")
    keys, places = torch.from_numpy(pool.keys[order]), torch.from_numpy(pool.places[order])
    offsets = torch.zeros(rows + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(places // features, minlength=rows).cumsum(0)
    values = keys.view(torch.float32)
    codes = Codes(
        values=values, indices=(places % features).int(), features=features, offsets=offsets
    )
    smallest = keys.min() if keys.numel() else torch.zeros((), dtype=torch.int32)
    return codes, smallest.view(torch.float32)


@njit(parallel=True, fastmath=FAST, cache=True)
def _add_histogram(keys, marks, size, least, out):
    """Count the keys of marked blocks that reach ``least``, by their upper bits; NaN as one."""
    rows = keys.shape[0]
    for part in prange(_SLICES):
        own = out[part]
        for row in range(part * rows // _SLICES, (part + 1) * rows // _SLICES):
            for block in range(marks.shape[1]):
                if not marks[row, block]:
                    continue
                for i in range(block * BLOCK, min(size, (block + 1) * BLOCK)):
                    key = keys[row, i]
                    if key & _MAGNITUDE > _INF:
                        key = _NAN
                    if key >= least:
                        own[key >> _SHIFT] += 1
