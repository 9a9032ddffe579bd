# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""encode_topk by Triton: the dense pre-activations are never written.

A program runs the GEMM of some rows with some features and keeps its best candidates of each row in
registers. A second kernel selects among all candidates. A program may hide a winner only if all its
candidates are selected: then ``repair`` computes the program's features for the row again. The
features are dealt to programs by a hash (``dealing``), so that dictionaries ordered by frequency,
by prefix or in blocks do not crowd one program, and a layout made to crowd it costs little.
"""

import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.gpu.configs import (
    EncodeConfig,
    candidate_registers,
    encode_config,
    fitted,
    register_limit,
)
from isogloss.kernels.gpu.dealing import _dealt
from isogloss.kernels.gpu.repair import Lists, TileCall, new_lists, repair
from isogloss.kernels.gpu.tiles import (
    _empty_list,
    _entries,
    _merge,
    _put,
    _store_candidates,
    _store_row,
    _tile_keys,
    list_sizes,
    list_warps,
    loadable,
    tile_dtype,
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
    rows = x.shape[0]
    features, device = weight.shape[0], x.device
    tile = config or fitted(encode_config(tile_dtype(x, weight), device), k, features)
    x, weight = loadable(x, weight, tile.depth)
    call = TileCall(x, weight, bias.contiguous(), tile)
    lists = new_lists(rows, call.programs, tile.kept, k, device)
    if rows == 0:
        return lists.values, lists.indices, lists.repaired
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    options |= candidate_registers(weight.dtype, device)
    _candidates_kernel[(triton.cdiv(rows, tile.rows), call.programs)](
        *call.source, lists.keys, lists.places, *call.sizes, **call.constants, **options
    )
    select(lists, call)
    repair(lists, call)
    return lists.values, lists.indices, lists.repaired


def select(lists: Lists, call: TileCall) -> None:
    """Select the best of each row's candidates, and flag the rows on which a program may hide one.

    Args:
        lists: with the candidates; the rest is written.
        call: what the candidates were made from.
    """
    rows, programs, kept = lists.keys.shape
    padded, groups = list_sizes(lists.k, programs, kept)
    _select_kernel[(rows,)](
        *lists,
        lists.k,
        programs,
        PADDED=padded,
        KEPT=kept,
        GROUPS=groups,
        HIDES=lists.most(call.span) > 0,
        num_warps=list_warps(padded),
        **register_limit(lists.keys.device),
    )


@triton.jit(do_not_specialize=("rows",))
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
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    program = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    best, where = _empty_list(ROWS, KEPT)
    for tile in range(TILES):
        place = tile * COLUMNS + column
        keys = _tile_keys(
            x_ptr,
            weight_ptr,
            bias_ptr,
            row,
            row < rows,
            _dealt(place, program, programs),
            features,
            width,
            x_stride,
            ROWS,
            COLUMNS,
            DEPTH,
        )
        for _ in range(KEPT):
            top, at = tl.max(keys, axis=1, return_indices=True)
            best, where = _put(best, where, top, tile * COLUMNS + at, KEPT)
            keys = tl.where(column[None, :] == at[:, None], -1, keys)
    group = row * programs + program
    _store_candidates(keys_ptr, places_ptr, best, where, row < rows, group, KEPT)


@triton.jit
def _select_kernel(
    keys_ptr,  # [rows, programs, KEPT] int32
    places_ptr,  # [rows, programs, KEPT] int16
    values_ptr,  # out [rows, k]
    indices_ptr,  # out [rows, k] int32
    repaired_ptr,  # out [rows] int32
    ranks_ptr,  # out [rows, programs] int16, when HIDES: which of those that hide it is, or -1
    k,
    programs,
    PADDED: tl.constexpr,
    KEPT: tl.constexpr,
    GROUPS: tl.constexpr,
    HIDES: tl.constexpr,
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
        entries = _entries(keys, _dealt(place.to(tl.int32), program, programs))
        best = _merge(best, entries, PADDED)
    _store_row(best, values_ptr, indices_ptr, row, k, PADDED)
    hidden = 0
    if HIDES:
        least = tl.min(tl.where(tl.arange(0, PADDED) < k, best, 0x7FFFFFFFFFFFFFFF), axis=0)
        bound = tl.maximum(least, 1)
        for start in range(0, programs, GROUPS):
            program = start + tl.arange(0, GROUPS)
            at = program[:, None] * KEPT + tl.arange(0, KEPT)[None, :]
            mask = (program < programs)[:, None] & (tl.arange(0, KEPT)[None, :] < KEPT)
            keys = tl.load(keys_ptr + base + at, mask=mask, other=-1)
            place = tl.load(places_ptr + base + at, mask=mask, other=0)
            feature = _dealt(place.to(tl.int32), program[:, None], programs)
            hides = (tl.min(_entries(keys, feature), axis=1) >= bound).to(tl.int32)
            rank = tl.where(hides != 0, hidden + tl.cumsum(hides, axis=0) - 1, -1)
            out = ranks_ptr + row * programs + program
            tl.store(out, rank.to(tl.int16), mask=program < programs)
            hidden += tl.sum(hides, axis=0)
    tl.store(repaired_ptr + row, (hidden > 0).to(tl.int32))
