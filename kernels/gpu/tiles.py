# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false, reportAssignmentType=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""A tile of the encoder: its pre-activations, the best of each row, and lists of those.

What ``encode``, its repair, ``aux_topk``, ``batch_topk`` and ``threshold`` share.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.gpu.configs import EncodeConfig


def tile_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """The dtype in which rows and directions are multiplied: theirs, float32 where they differ."""
    return weight.dtype if x.dtype == weight.dtype else torch.float32


def loadable(x: Tensor, weight: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Make rows and directions fit to be loaded 128 bits at a time, a whole step of the loop each.

    Both get one dtype. A width that is no multiple of ``depth`` is filled up with zeros, in a copy
    of rows and directions: zeros change no sum. Loaded element by element, without pipelining, an
    odd width took 16 to 32 times as many loads in the innermost loop.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        depth: width taken by one step of the innermost loop, a multiple of 16.

    Returns:
        Both, of the width that the kernels see.
    """
    dtype, width = tile_dtype(x, weight), triton.cdiv(x.shape[1], depth) * depth
    return _filled(x.to(dtype), width), _filled(weight.to(dtype), width)


def _filled(matrix: Tensor, width: int) -> Tensor:
    """The matrix of that width, its rows beginning at multiples of 16 elements and 16 bytes."""
    far = width - matrix.shape[1]
    strides = matrix.stride(1) == 1 and matrix.stride(0) % 16 == 0
    if far == 0 and strides and matrix.data_ptr() % 16 == 0:
        return matrix
    out = torch.empty(len(matrix), width, dtype=matrix.dtype, device=matrix.device)
    out[:, : width - far].copy_(matrix)
    out[:, width - far :].zero_()
    return out


def tile_constants(tile: EncodeConfig) -> dict[str, int]:
    """Constants of a kernel that keeps candidates of a tile."""
    return {
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "TILES": tile.tiles,
        "KEPT": tile.kept,
        "DEPTH": tile.depth,
    }


def list_sizes(k: int, programs: int, kept: int) -> tuple[int, int]:
    """Length of a row's list, and the programs whose candidates are merged into it at once."""
    padded = max(16, triton.next_power_of_2(k))
    at_once = min(triton.next_power_of_2(programs), max(1, 512 // kept))
    return padded, max(1, padded // kept, at_once)


def list_warps(padded: int) -> int:
    """Warps that sort a row's list."""
    return 4 if padded <= 256 else 8


@triton.jit
def _tile_keys(
    x_ptr,  # [rows, width], rows x_stride apart
    weight_ptr,  # [features, width]
    bias_ptr,  # [features]
    row,  # [ROWS] int64
    row_ok,  # [ROWS]
    feature,  # [COLUMNS] int64
    features,
    width,  # a multiple of DEPTH
    x_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """relu(x @ weight.T + bias) of one tile as int32 that order as the floats; -1 outside.

    The one place that computes pre-activations: a repaired row has the bits it would have had.
    """
    inner = tl.arange(0, DEPTH)
    x_at = x_ptr + row[:, None] * x_stride + inner[None, :]
    feature_at = tl.minimum(feature, features - 1)  # a mask for each row spilled on sm90
    weight_at = weight_ptr + feature_at[:, None] * width + inner[None, :]
    total = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    # they arrive while the loop runs
    biases = _spread(bias_ptr, feature, features, float("-inf"), COLUMNS)
    for start in range(0, width, DEPTH):
        left = tl.load(x_at + start, mask=row_ok[:, None], other=0.0)
        right = tl.load(weight_at + start)
        total = tl.dot(left, tl.trans(right), total, input_precision="ieee")
    bias = tl.sum(biases, axis=1)
    total += bias[None, :]
    positive = tl.where(total <= 0, 0.0, total)
    keys = tl.where(total != total, 0x7FC00000, positive.to(tl.int32, bitcast=True))
    return tl.where(bias[None, :] == float("-inf"), -1, keys)


@triton.jit
def _spread(numbers_ptr, feature, features, none, COLUMNS: tl.constexpr):
    """Numbers of a tile's features as sums of rows, ``[COLUMNS, PARTS]``; ``none`` beyond the last.

    About one lane a thread reads, the others hold 0. Loaded as a vector, each thread would read all
    columns that it holds of the tile: on sm90 that was 32 loads, and 64 hashes of places.
    """
    PARTS: tl.constexpr = 512 // COLUMNS if COLUMNS < 512 else 1
    is_read = tl.arange(0, PARTS)[None, :] == 0
    is_none = (feature >= features)[:, None]
    at = tl.broadcast_to(numbers_ptr + feature[:, None], [COLUMNS, PARTS])
    number = tl.load(at, mask=is_read & (is_none == 0), other=0)
    if numbers_ptr.dtype.element_ty.is_floating():
        number = number.to(tl.float32)
    return tl.where(is_read & is_none, none, number)


@triton.jit
def _empty_list(ROWS: tl.constexpr, KEPT: tl.constexpr):
    """Keys and places of a list without candidates; places differ, so that one is the last."""
    slot = tl.arange(0, KEPT)
    keys = tl.full([ROWS, KEPT], -1, tl.int32)
    return keys, tl.zeros([ROWS, KEPT], tl.int32) - 1 - slot[None, :]


@triton.jit
def _put(best, where, top, at, KEPT: tl.constexpr):
    """Replace the worst candidate of each row where the offered one has a larger key.

    Among equals the one with the last place goes. Offered in ascending places, the candidates are
    the best by (key descending, place ascending): the certificate of ``encode`` counts on that.
    """
    # where keys are equal the places are compared, as their negatives
    worst, last = tl.reduce((best, -where), 1, tl.standard._argmin_combine_tie_break_left)
    put = (where == -last[:, None]) & (top > worst)[:, None]
    return tl.where(put, top[:, None], best), tl.where(put, at[:, None], where)


@triton.jit
def _store_candidates(keys_ptr, places_ptr, best, where, row_ok, group, KEPT: tl.constexpr):
    """Write the candidates of one program; ``group``: row * programs + program, of each row."""
    slot = tl.arange(0, KEPT)
    out = (group * KEPT)[:, None] + slot[None, :]
    mask = row_ok[:, None] & (slot[None, :] < KEPT)
    tl.store(keys_ptr + out, best, mask=mask)
    tl.store(places_ptr + out, where.to(tl.int16), mask=mask)


@triton.jit
def _entries(keys, feature):
    """One int64 a candidate: larger is a larger value, then a lower feature; -1 for none or 0."""
    packed = (keys.to(tl.int64) << 32) | (0x7FFFFFFF - feature).to(tl.int64)
    return tl.where(keys > 0, packed, -1)


@triton.jit
def _merge(best, offered, PADDED: tl.constexpr):
    """The PADDED largest of two lists, descending."""
    return tl.topk(tl.join(best, tl.topk(offered, PADDED)).reshape(2 * PADDED), PADDED)


@triton.jit
def _store_row(best, values_ptr, indices_ptr, row, k, PADDED: tl.constexpr):
    """Write a row; places without a value get 0 and the lowest features the row does not hold."""
    slot = tl.arange(0, PADDED)
    value = tl.where(best >= 0, (best >> 32).to(tl.int32), 0).to(tl.float32, bitcast=True)
    feature = (0x7FFFFFFF - (best & 0x7FFFFFFF)).to(tl.int32)
    held = tl.sum((best >= 0).to(tl.int32), axis=0)
    tl.store(values_ptr + row * k + slot, value, mask=slot < k)
    tl.store(indices_ptr + row * k + slot, feature, mask=slot < tl.minimum(held, k))
    if held < k:
        taken = tl.zeros([PADDED], tl.int32)
        for j in range(held):
            one = tl.sum(tl.where(slot == j, feature, 0), axis=0)
            taken += (slot == one).to(tl.int32)
        place = held + tl.cumsum(1 - taken, axis=0) - 1
        tl.store(indices_ptr + row * k + place, slot, mask=(taken == 0) & (place < k))
