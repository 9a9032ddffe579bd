# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""encode_topk_aux by Triton: one GEMM, two lists of candidates, two selections.

A program keeps, of every tile, its best candidates and its best candidates under the mask. What the
first selection takes out of a tile is offered to the second list at once, so that one copy of the
tile serves both. Each list has its own certificate and its own repair; see ``encode``.
"""

from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.gpu.configs import (
    EncodeConfig,
    candidates_kept,
    encode_config,
    fitted,
    register_limit,
)
from isogloss.kernels.gpu.dealing import _dealt
from isogloss.kernels.gpu.encode import select
from isogloss.kernels.gpu.repair import TileCall, new_lists, repair
from isogloss.kernels.gpu.tiles import (
    _empty_list,
    _put,
    _spread,
    _store_candidates,
    _tile_keys,
    list_sizes,
    list_warps,
    loadable,
    tile_dtype,
)

_Found = tuple[Tensor, Tensor, Tensor, Tensor]


def encode_topk_aux(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: int,
    candidates: Tensor,
    aux_k: int,
    config: tuple[EncodeConfig, int] | None = None,
) -> tuple[_Found, Tensor, Tensor]:
    """``isogloss.kernels.encode_topk_aux``, and which rows of either set were repaired.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
        k: entries a row of the first set.
        candidates: the features under the mask, int32 ascending.
        aux_k: entries a row of the second set; at most as many as there are candidates.
        config: the tile, and how many candidates under the mask a program keeps.

    Returns:
        Values and indices of both sets; int32 ``[rows]`` for each set, 1 for repaired rows.
    """
    rows, features, device = x.shape[0], weight.shape[0], x.device
    table = encode_config(tile_dtype(x, weight), device)
    tile, aux_kept = config or two_lists(table, k, aux_k, candidates.numel(), features)
    x, weight = loadable(x, weight, tile.depth)
    call = TileCall(x, weight, bias.contiguous(), tile)
    mask = torch.zeros(features, dtype=torch.int32, device=device)
    mask.index_fill_(0, candidates.long(), 1)
    main = new_lists(rows, call.programs, tile.kept, k, device)
    aux = new_lists(rows, call.programs, aux_kept, aux_k, device)
    found: _Found = (main.values, main.indices, aux.values, aux.indices)
    if rows == 0:
        return found, main.repaired, aux.repaired
    # on sm120 half dtypes spilled without that limit, and float32 with it
    _two_candidates_kernel[(triton.cdiv(rows, tile.rows), call.programs)](
        *call.source,
        mask,
        *main[:2],
        *aux[:2],
        *call.sizes,
        **call.constants,
        AUX_KEPT=aux_kept,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **({} if weight.dtype == torch.float32 else register_limit(device)),
    )
    select(main, call)
    repair(main, call)
    select(aux, call)
    repair(aux, call, mask)
    padded = list_sizes(aux_k, call.programs, aux_kept)[0]
    ranks = torch.cumsum(mask, 0, dtype=torch.int32) - 1
    _fill_masked_kernel[(rows,)](
        ranks, candidates, *found[2:], aux_k, PADDED=padded, num_warps=list_warps(padded)
    )
    return found, main.repaired, aux.repaired


_MOST_KEPT = 32
"""Candidates under the mask that a program keeps at most, except where it keeps all."""


def two_lists(
    config: EncodeConfig, k: int, aux_k: int, masked: int, features: int
) -> tuple[EncodeConfig, int]:
    """Choose the tile for both lists, and how many candidates under the mask a program keeps.

    Of the tiles that fit the first list it is the one whose candidates take the fewest bytes.
    Masked features lie anywhere, so a program expects its share of the winners, and hardly holds
    more than its share of the masked features and four standard deviations. A tile has half the
    elements of the first list's: with two lists in registers, 128 x 128 spilled on sm90 and 64 x
    128 on sm100. float32's 64 x 64 stays, with two stages: three spilled on sm100.

    Args:
        config: the tile from the table.
        k: entries a row of the first set.
        aux_k: entries a row of the second set.
        masked: features under the mask.
        features: number of all features.

    Returns:
        The tile, and the number of candidates under the mask.
    """
    base = fitted(config, k, features)
    rows, half = min(64, base.rows), max(min(64, base.columns), base.columns // 2)
    whole = base.columns if base.rows > 64 else half
    columns, tiles, kept = half, 1, half  # all that there is: nothing is ever hidden
    for width in (half, whole):
        choices: list[tuple[int, int, int]] = []
        for number in range(1, base.tiles * base.columns // width + 1):
            room = _candidates_kept(aux_k, masked, width, width * number / features)
            programs = triton.cdiv(features, width * number)
            choices.append((programs * (base.kept + room), -number, room))
        fits = [choice for choice in choices if choice[2] <= _MOST_KEPT]
        if fits:
            columns, tiles, kept = width, -min(fits)[1], min(fits)[2]
    tile = replace(
        base,
        rows=rows,
        columns=columns,
        tiles=tiles,
        kept=min(base.kept, columns),
        stages=base.stages if base.rows * base.columns > 64 * 64 else min(base.stages, 2),
    )
    return tile, kept


def _candidates_kept(aux_k: int, masked: int, columns: int, share: float) -> int:
    """Return how many candidates under the mask a program with that share of features keeps."""
    held = masked * share + 4 * (masked * share) ** 0.5 + 1
    kept = candidates_kept(aux_k * share, 8, columns)
    return min(columns, max(8, min(kept, triton.next_power_of_2(int(held)))))


@triton.jit(do_not_specialize=("rows",))
def _two_candidates_kernel(
    x_ptr,  # [rows, width], rows x_stride apart
    weight_ptr,  # [features, width]
    bias_ptr,  # [features]
    mask_ptr,  # [features] int32, 1 under the mask
    keys_ptr,  # out [rows, programs, KEPT] int32
    places_ptr,  # out [rows, programs, KEPT] int16
    aux_keys_ptr,  # out [rows, programs, AUX_KEPT] int32
    aux_places_ptr,  # out [rows, programs, AUX_KEPT] int16
    rows,
    features,
    width,
    programs,
    x_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,
    KEPT: tl.constexpr,
    AUX_KEPT: tl.constexpr,
    DEPTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    program = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    best, where = _empty_list(ROWS, KEPT)
    aux_best, aux_where = _empty_list(ROWS, AUX_KEPT)
    for tile in range(TILES):
        feature = _dealt(tile * COLUMNS + column, program, programs)
        keys = _tile_keys(
            x_ptr,
            weight_ptr,
            bias_ptr,
            row,
            row < rows,
            feature,
            features,
            width,
            x_stride,
            ROWS,
            COLUMNS,
            DEPTH,
        )
        masked = tl.sum(_spread(mask_ptr, feature, features, 0, COLUMNS), axis=1)
        for _ in range(KEPT):
            top, at = tl.max(keys, axis=1, return_indices=True)
            best, where = _put(best, where, top, tile * COLUMNS + at, KEPT)
            offered = tl.where(tl.gather(masked, at, 0) != 0, top, -1)
            aux_best, aux_where = _put(aux_best, aux_where, offered, tile * COLUMNS + at, AUX_KEPT)
            keys = tl.where(column[None, :] == at[:, None], -1, keys)
        keys = tl.where((masked != 0)[None, :], keys, -1)
        for _ in range(AUX_KEPT):
            top, at = tl.max(keys, axis=1, return_indices=True)
            aux_best, aux_where = _put(aux_best, aux_where, top, tile * COLUMNS + at, AUX_KEPT)
            keys = tl.where(column[None, :] == at[:, None], -1, keys)
    group = row * programs + program
    _store_candidates(keys_ptr, places_ptr, best, where, row < rows, group, KEPT)
    _store_candidates(
        aux_keys_ptr, aux_places_ptr, aux_best, aux_where, row < rows, group, AUX_KEPT
    )


@triton.jit
def _fill_masked_kernel(
    ranks_ptr,  # [features] int32: place among the candidates of features under the mask
    candidates_ptr,  # [candidates] int32, at least k
    values_ptr,  # [rows, k]
    indices_ptr,  # in and out [rows, k] int32
    k,
    PADDED: tl.constexpr,
):
    """Give places without a value the lowest candidates that the row does not hold, ascending."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, PADDED)
    values = tl.load(values_ptr + row * k + slot, mask=slot < k, other=0.0)
    held = tl.sum((values.to(tl.int32, bitcast=True) > 0).to(tl.int32), axis=0)
    if held < k:
        feature = tl.load(indices_ptr + row * k + slot, mask=slot < held, other=0)
        rank = tl.load(ranks_ptr + feature, mask=slot < held, other=-1)
        taken = tl.zeros([PADDED], tl.int32)
        for j in range(held):
            one = tl.sum(tl.where(slot == j, rank, 0), axis=0)
            taken += (slot == one).to(tl.int32)
        place = held + tl.cumsum(1 - taken, axis=0) - 1
        lowest = tl.load(candidates_ptr + slot, mask=slot < k, other=0)
        tl.store(indices_ptr + row * k + place, lowest, mask=(taken == 0) & (place < k))
