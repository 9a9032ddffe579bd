# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""encode_topk by Triton: the dense pre-activations are never written.

A program runs the GEMM of some rows with some features and keeps its best candidates of each row in
registers. A second kernel selects among all candidates. A program may hide a winner only if its
worst kept candidate could itself have been selected: such rows are repaired, by recomputing exactly
those programs' features for the row. The features of a program are strided over the dictionary, so
that dictionaries ordered by frequency or by prefix do not crowd one program.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.gpu.configs import (
    EncodeConfig,
    encode_config,
    fitted,
    register_limit,
    repair_tile,
)


def encode_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, config: EncodeConfig | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """``isogloss.kernels.encode_topk``, and which rows were repaired.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
        k: entries a row.
        config: rows and features of a program; None for the table's.

    Returns:
        Values float32 and indices int32, both ``[rows, k]``; int32 ``[rows]``: 1 for repaired rows.
    """
    rows, width = x.shape
    features, device = weight.shape[0], x.device
    x, weight, even = loadable(x, weight)
    tile = config or fitted(encode_config(weight.dtype, device, even=even), k, features)
    programs = triton.cdiv(features, tile.columns * tile.tiles)
    found = new_lists(rows, programs, tile.kept, k, device)
    if rows == 0:
        return found[2:]
    shape, bias = _shape(tile, width), bias.contiguous()
    limit = register_limit(device)
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    sizes = (rows, features, width, programs)
    _candidates_kernel[(triton.cdiv(rows, tile.rows), programs)](
        x, weight, bias, *found[:2], *sizes, x.stride(0), **shape, **options
    )
    padded, groups = list_sizes(k, programs, tile.kept)
    lists = {"PADDED": padded, "GROUPS": groups, **limit}
    _select_kernel[(rows,)](
        *found, k, programs, KEPT=tile.kept, num_warps=list_warps(padded), **lists
    )
    _repair_kernel[(rows,)](
        x,
        weight,
        bias,
        *found,
        k,
        *sizes,
        x.stride(0),
        **{**shape, **repair_tile(tile)},
        **options,
        **lists,
    )
    return found[2:]


def loadable(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Make rows and directions fit to be loaded by tiles.

    Both get one dtype, and the elements of a row lie side by side. Where every row also begins at a
    multiple of 16 elements, tiles load 16 at a time.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.

    Returns:
        Both, and whether 16 elements are loaded at a time.
    """
    if x.dtype != weight.dtype:
        x, weight = x.float(), weight.float()
    x = x if x.stride(1) == 1 else x.contiguous()
    return x, weight, x.shape[1] % 16 == 0 and x.stride(0) % 16 == 0


def new_lists(
    rows: int, programs: int, kept: int, k: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Keys and places of the candidates; values, indices and repaired rows."""
    return (
        torch.empty(rows, programs, kept, dtype=torch.int32, device=device),
        torch.empty(rows, programs, kept, dtype=torch.int16, device=device),
        torch.empty(rows, k, dtype=torch.float32, device=device),
        torch.empty(rows, k, dtype=torch.int32, device=device),
        torch.empty(rows, dtype=torch.int32, device=device),
    )


def _shape(tile: EncodeConfig, width: int) -> dict[str, int]:
    return {
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "TILES": tile.tiles,
        "KEPT": tile.kept,
        "DEPTH": tile.depth,
        "EVEN": width % tile.depth == 0,
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
    width,
    x_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    EVEN: tl.constexpr,
):
    """relu(x @ weight.T + bias) of one tile as int32 that order as the floats; -1 outside.

    The one place that computes pre-activations: a repaired row has the bits it would have had.
    """
    inner = tl.arange(0, DEPTH)
    column_ok = feature < features
    x_at = x_ptr + row[:, None] * x_stride + inner[None, :]
    weight_at = weight_ptr + feature[:, None] * width + inner[None, :]
    total = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for start in range(0, width, DEPTH):
        if EVEN:
            x_mask, weight_mask = row_ok[:, None], column_ok[:, None]
        else:
            inside = inner[None, :] + start < width
            x_mask, weight_mask = row_ok[:, None] & inside, column_ok[:, None] & inside
        left = tl.load(x_at + start, mask=x_mask, other=0.0)
        right = tl.load(weight_at + start, mask=weight_mask, other=0.0)
        total = tl.dot(left, tl.trans(right), total, input_precision="ieee")
    total += tl.load(bias_ptr + feature, mask=column_ok, other=0.0).to(tl.float32)[None, :]
    positive = tl.where(total <= 0, 0.0, total)
    keys = tl.where(total != total, 0x7FC00000, positive.to(tl.int32, bitcast=True))
    return tl.where(column_ok[None, :], keys, -1)


@triton.jit
def _put(best, where, top, at, KEPT: tl.constexpr):
    """Replace the worst kept candidate of each row by the offered one, where that is better."""
    slot = tl.arange(0, KEPT)
    worst, worst_at = tl.min(best, axis=1, return_indices=True)
    put = (slot[None, :] == worst_at[:, None]) & (top > worst)[:, None]
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
def _candidates_kernel(
    x_ptr,  # [rows, width], rows x_stride apart
    weight_ptr,  # [features, width]
    bias_ptr,  # [features]
    keys_ptr,  # out [rows, programs, KEPT] int32
    places_ptr,  # out [rows, programs, KEPT] int16
    rows,
    features,
    width,
    programs,
    x_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,
    KEPT: tl.constexpr,
    DEPTH: tl.constexpr,
    EVEN: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    program = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    best = tl.full([ROWS, KEPT], -1, tl.int32)
    where = tl.zeros([ROWS, KEPT], tl.int32)
    for tile in range(TILES):
        place = tile * COLUMNS + column
        keys = _tile_keys(
            x_ptr,
            weight_ptr,
            bias_ptr,
            row,
            row < rows,
            program + place.to(tl.int64) * programs,
            features,
            width,
            x_stride,
            ROWS,
            COLUMNS,
            DEPTH,
            EVEN,
        )
        for _ in range(KEPT):
            top, at = tl.max(keys, axis=1, return_indices=True)
            best, where = _put(best, where, top, tile * COLUMNS + at, KEPT)
            keys = tl.where(column[None, :] == at[:, None], -1, keys)
    group = row * programs + program
    _store_candidates(keys_ptr, places_ptr, best, where, row < rows, group, KEPT)


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


@triton.jit
def _select_kernel(
    keys_ptr,  # [rows, programs, KEPT] int32
    places_ptr,  # [rows, programs, KEPT] int16
    values_ptr,  # out [rows, k]
    indices_ptr,  # out [rows, k] int32
    repaired_ptr,  # out [rows] int32
    k,
    programs,
    PADDED: tl.constexpr,
    KEPT: tl.constexpr,
    GROUPS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    base = row * programs * KEPT
    lane = tl.arange(0, GROUPS * KEPT)
    best = tl.full([PADDED], -1, tl.int64)
    for start in range(0, programs, GROUPS):
        program = start + lane // KEPT
        mask = program < programs
        keys = tl.load(keys_ptr + base + start * KEPT + lane, mask=mask, other=-1)
        place = tl.load(places_ptr + base + start * KEPT + lane, mask=mask, other=0)
        entries = _entries(keys, program + place.to(tl.int32) * programs)
        best = _merge(best, entries, PADDED)
    _store_row(best, values_ptr, indices_ptr, row, k, PADDED)
    least = tl.min(tl.where(tl.arange(0, PADDED) < k, best, 0x7FFFFFFFFFFFFFFF), axis=0)
    bound = tl.maximum((least >> 32).to(tl.int32), 1)
    group = tl.arange(0, GROUPS)
    hidden = 0
    for start in range(0, programs, GROUPS):
        at = (start + group)[:, None] * KEPT + tl.arange(0, KEPT)[None, :]
        mask = (start + group < programs)[:, None] & (tl.arange(0, KEPT)[None, :] < KEPT)
        worst = tl.min(tl.load(keys_ptr + base + at, mask=mask, other=-1), axis=1)
        hidden += tl.sum((worst >= bound).to(tl.int32), axis=0)
    tl.store(repaired_ptr + row, (hidden > 0).to(tl.int32))


@triton.jit
def _repair_row(
    x_ptr,  # [rows, width], rows x_stride apart
    weight_ptr,  # [features, width]
    bias_ptr,  # [features]
    mask_ptr,  # [features] int32, read when MASKED
    keys_ptr,  # [rows, programs, KEPT] int32
    places_ptr,  # [rows, programs, KEPT] int16
    values_ptr,  # in and out [rows, k]
    indices_ptr,  # out [rows, k] int32
    repaired_ptr,  # [rows] int32
    k,
    rows,
    features,
    width,
    programs,
    x_stride,
    PADDED: tl.constexpr,
    GROUPS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,
    KEPT: tl.constexpr,
    DEPTH: tl.constexpr,
    EVEN: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Select a flagged row again, from all features of each program that may hide a winner.

    The candidates of the other programs are taken as they are.
    """
    row = tl.program_id(0).to(tl.int64)
    if tl.load(repaired_ptr + row) != 0:
        base = row * programs * KEPT
        bound = tl.load(values_ptr + row * k + k - 1).to(tl.int32, bitcast=True)
        bound = tl.maximum(bound, 1)
        slot = tl.arange(0, KEPT)
        first = tl.arange(0, ROWS)
        best = tl.full([PADDED], -1, tl.int64)
        for start in range(0, programs, GROUPS):
            # candidates of programs that hide nothing
            group = start + tl.arange(0, GROUPS)
            at = group[:, None] * KEPT + slot[None, :]
            mask = (group < programs)[:, None] & (slot[None, :] < KEPT)
            keys = tl.load(keys_ptr + base + at, mask=mask, other=-1)
            place = tl.load(places_ptr + base + at, mask=mask, other=0)
            worst = tl.min(keys, axis=1)
            keys = tl.where((worst >= bound)[:, None], -1, keys)
            entries = _entries(keys, group[:, None] + place.to(tl.int32) * programs)
            best = _merge(best, entries.reshape(GROUPS * KEPT), PADDED)
        for program in range(programs):
            worst = tl.min(tl.load(keys_ptr + base + program * KEPT + slot), axis=0)
            if worst >= bound:
                for tile in range(TILES):
                    column = tile * COLUMNS + tl.arange(0, COLUMNS)
                    feature = program + column.to(tl.int64) * programs
                    tile_keys = _tile_keys(
                        x_ptr,
                        weight_ptr,
                        bias_ptr,
                        tl.where(first == 0, row, 0),
                        first == 0,
                        feature,
                        features,
                        width,
                        x_stride,
                        ROWS,
                        COLUMNS,
                        DEPTH,
                        EVEN,
                    )
                    mine = tl.max(tl.where((first == 0)[:, None], tile_keys, -1), axis=0)
                    if MASKED:
                        masked = tl.load(mask_ptr + feature, mask=feature < features, other=0)
                        mine = tl.where(masked != 0, mine, -1)
                    offered = _entries(mine, feature.to(tl.int32))
                    if COLUMNS >= PADDED:
                        best = _merge(best, offered, PADDED)
                    else:
                        best = _merge_short(best, offered, PADDED, COLUMNS)
        _store_row(best, values_ptr, indices_ptr, row, k, PADDED)


@triton.jit
def _repair_kernel(
    x_ptr,  # [rows, width], rows x_stride apart
    weight_ptr,  # [features, width]
    bias_ptr,  # [features]
    keys_ptr,  # [rows, programs, KEPT] int32
    places_ptr,  # [rows, programs, KEPT] int16
    values_ptr,  # in and out [rows, k]
    indices_ptr,  # out [rows, k] int32
    repaired_ptr,  # [rows] int32
    k,
    rows,
    features,
    width,
    programs,
    x_stride,
    PADDED: tl.constexpr,
    GROUPS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,
    KEPT: tl.constexpr,
    DEPTH: tl.constexpr,
    EVEN: tl.constexpr,
):
    _repair_row(
        x_ptr,
        weight_ptr,
        bias_ptr,
        bias_ptr,
        keys_ptr,
        places_ptr,
        values_ptr,
        indices_ptr,
        repaired_ptr,
        k,
        rows,
        features,
        width,
        programs,
        x_stride,
        PADDED,
        GROUPS,
        ROWS,
        COLUMNS,
        TILES,
        KEPT,
        DEPTH,
        EVEN,
        False,
    )


@triton.jit
def _merge_short(best, offered, PADDED: tl.constexpr, COLUMNS: tl.constexpr):
    """The PADDED largest of a list and a shorter one."""
    lane = tl.arange(0, PADDED)
    spread = tl.gather(offered, lane % COLUMNS, 0)
    return _merge(best, tl.where(lane < COLUMNS, spread, -1), PADDED)
