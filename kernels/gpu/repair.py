# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""The encoder's repair: rows on which a program may hide a winner are selected again.

One kernel lists the rows of each program, one computes a program's tiles for as many of those rows
at once as the first pass took, and one merges all features of the programs that hide with the
candidates of the others. The same tile code in the same shape: a repaired row has the bits it would
have had. Nothing waits for the device: grids and memory are those of the worst case
(``dealing``), and programs without rows end at once.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.gpu.configs import EncodeConfig, register_limit
from isogloss.kernels.gpu.dealing import _dealt
from isogloss.kernels.gpu.tiles import (
    _entries,
    _merge,
    _spread,
    _store_row,
    _tile_keys,
    list_sizes,
    tile_constants,
)

DENSE_BYTES = 64 << 20
"""Keys of hiding programs that are held at once; what needs more is repaired in parts."""

AT_ONCE = 1024
"""Rows that are looked through at once for a program."""


class TileCall(NamedTuple):
    """What the kernels that compute tiles read."""

    x: Tensor
    """``[rows, width]``."""
    weight: Tensor
    """``[features, width]``."""
    bias: Tensor
    """``[features]``, contiguous."""
    tile: EncodeConfig
    """Rows and features of a program."""

    @property
    def source(self) -> tuple[Tensor, Tensor, Tensor]:
        """The tensors."""
        return self.x, self.weight, self.bias

    @property
    def span(self) -> int:
        """Places of a program."""
        return self.tile.columns * self.tile.tiles

    @property
    def programs(self) -> int:
        """Programs that share the features."""
        return triton.cdiv(self.weight.shape[0], self.span)

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Rows, features, width, programs, and the stride of the rows."""
        features, width = self.weight.shape
        return self.x.shape[0], features, width, self.programs, self.x.stride(0)

    @property
    def constants(self) -> dict[str, int]:
        """Constants of the kernel that keeps candidates."""
        return tile_constants(self.tile)


class Lists(NamedTuple):
    """Candidates of each row, and what is selected among them."""

    keys: Tensor
    """int32 ``[rows, programs, kept]``."""
    places: Tensor
    """int16 ``[rows, programs, kept]``."""
    values: Tensor
    """float32 ``[rows, k]``."""
    indices: Tensor
    """int32 ``[rows, k]``."""
    repaired: Tensor
    """int32 ``[rows]``: 1 where a program may hide a winner."""
    ranks: Tensor
    """int16 ``[rows, programs]``: number of a program among those that may, or -1."""

    @property
    def k(self) -> int:
        """Entries of a row."""
        return self.values.shape[1]

    def most(self, span: int) -> int:
        """How many programs of so many places may hide a winner on one row; see ``dealing``."""
        _, programs, kept = self.keys.shape
        return 0 if kept >= span else min(self.k // kept, programs)

    def part(self, first: int, last: int) -> "Lists":
        """The lists of some rows."""
        return Lists(*(tensor[first:last] for tensor in self))


def new_lists(rows: int, programs: int, kept: int, k: int, device: torch.device) -> Lists:
    """Lists to be filled."""
    return Lists(
        keys=torch.empty(rows, programs, kept, dtype=torch.int32, device=device),
        places=torch.empty(rows, programs, kept, dtype=torch.int16, device=device),
        values=torch.empty(rows, k, dtype=torch.float32, device=device),
        indices=torch.empty(rows, k, dtype=torch.int32, device=device),
        repaired=torch.empty(rows, dtype=torch.int32, device=device),
        ranks=torch.empty(rows, programs, dtype=torch.int16, device=device),
    )


def repair(lists: Lists, call: TileCall, mask: Tensor | None = None) -> None:
    """Select flagged rows again, from all features of each program that may hide a winner.

    Args:
        lists: after the selection; values and indices of flagged rows are written anew.
        call: what the candidates were made from.
        mask: int32 ``[features]``, 0 for features that take no part; None: all do.
    """
    most, span, rows = lists.most(call.span), call.span, call.x.shape[0]
    if most == 0 or rows == 0:
        return
    at_once = max(1, min(rows, DENSE_BYTES // (most * span * 4)))
    dense = torch.empty(at_once, most, span, dtype=torch.int32, device=call.x.device)
    for first in range(0, rows, at_once):
        part = slice(first, first + at_once)
        few = call._replace(x=call.x[part])
        _repair(lists.part(first, first + at_once), few, mask, dense)


def _repair(lists: Lists, call: TileCall, mask: Tensor | None, dense: Tensor) -> None:
    rows, programs, kept = lists.keys.shape
    tile, device, most = call.tile, call.x.device, dense.shape[1]
    listed = torch.empty(programs, rows, dtype=torch.int32, device=device)
    counts = torch.empty(programs, dtype=torch.int32, device=device)
    limit = register_limit(device)
    _list_kernel[(programs,)](
        lists.repaired, lists.ranks, listed, counts, rows, programs, AT_ONCE=AT_ONCE, num_warps=4
    )
    _again_kernel[(triton.cdiv(rows, tile.rows), programs)](
        *call.source,
        call.bias if mask is None else mask,
        listed,
        counts,
        lists.ranks,
        dense,
        *call.sizes,
        most,
        **again_constants(call.tile),
        MASKED=mask is not None,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **limit,
    )
    padded, groups = list_sizes(lists.k, programs, kept)
    _merge_kernel[(rows,)](
        *lists,
        dense,
        lists.k,
        programs,
        most,
        PADDED=padded,
        KEPT=kept,
        GROUPS=groups,
        SPAN=call.span,
        WIDE=max(padded, 256),
        num_warps=merge_warps(padded),
        **limit,
    )


def again_constants(tile: EncodeConfig) -> dict[str, int]:
    """Constants of the kernel that computes tiles again: the same features, at most 64 at once.

    With gathered rows 128 at once spilled on sm90. Instructions that differ only in their columns
    add in the same order; the compile matrix checks that nothing else differs.

    Args:
        tile: the one of the candidates.

    Returns:
        The constants.
    """
    constants = tile_constants(tile)
    del constants["KEPT"]
    columns = min(tile.columns, 64)
    return constants | {"COLUMNS": columns, "TILES": tile.columns * tile.tiles // columns}


def merge_warps(padded: int) -> int:
    """Warps that merge a row's list with a program's features."""
    return 4 if padded <= 256 else 8


@triton.jit(do_not_specialize=("rows",))
def _list_kernel(
    repaired_ptr,  # [rows] int32
    ranks_ptr,  # [rows, programs] int16
    listed_ptr,  # out [programs, rows] int32: the rows on which each program hides
    counts_ptr,  # out [programs] int32: how many
    rows,
    programs,
    AT_ONCE: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    count = 0
    for start in range(0, rows, AT_ONCE):
        row = start + tl.arange(0, AT_ONCE)
        flagged = tl.load(repaired_ptr + row, mask=row < rows, other=0)
        if tl.max(flagged, axis=0) > 0:
            at = row.to(tl.int64) * programs + program
            rank = tl.load(ranks_ptr + at, mask=flagged != 0, other=-1)
            hides = (rank >= 0).to(tl.int32)
            out = listed_ptr + program * rows + count + tl.cumsum(hides, axis=0) - 1
            tl.store(out, row, mask=rank >= 0)
            count += tl.sum(hides, axis=0)
    tl.store(counts_ptr + program, count)


@triton.jit(do_not_specialize=("rows",))
def _again_kernel(
    x_ptr,  # [rows, width], rows x_stride apart
    weight_ptr,  # [features, width]
    bias_ptr,  # [features]
    mask_ptr,  # [features] int32, read when MASKED
    listed_ptr,  # [programs, rows] int32
    counts_ptr,  # [programs] int32
    ranks_ptr,  # [rows, programs] int16
    dense_ptr,  # out [rows, most, COLUMNS * TILES] int32: keys of the programs that hide
    rows,
    features,
    width,
    programs,
    x_stride,
    most,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,
    DEPTH: tl.constexpr,
    MASKED: tl.constexpr,
):
    program = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row_ok = at < tl.load(counts_ptr + program)
    if tl.program_id(0) * ROWS < tl.load(counts_ptr + program):
        row = tl.load(listed_ptr + program * rows + at, mask=row_ok, other=0).to(tl.int64)
        rank = tl.load(ranks_ptr + row * programs + program, mask=row_ok, other=0)
        out = dense_ptr + (row * most + rank) * (COLUMNS * TILES)
        for tile in range(TILES):
            place = tile * COLUMNS + tl.arange(0, COLUMNS)
            feature = _dealt(place, program, programs)
            keys = _tile_keys(
                x_ptr,
                weight_ptr,
                bias_ptr,
                row,
                row_ok,
                feature,
                features,
                width,
                x_stride,
                ROWS,
                COLUMNS,
                DEPTH,
            )
            if MASKED:
                masked = tl.sum(_spread(mask_ptr, feature, features, 0, COLUMNS), axis=1)
                keys = tl.where((masked != 0)[None, :], keys, -1)
            tl.store(out[:, None] + place[None, :], keys, mask=row_ok[:, None])


@triton.jit
def _merge_kernel(
    keys_ptr,  # [rows, programs, KEPT] int32
    places_ptr,  # [rows, programs, KEPT] int16
    values_ptr,  # in and out [rows, k]
    indices_ptr,  # in and out [rows, k] int32
    repaired_ptr,  # [rows] int32
    ranks_ptr,  # [rows, programs] int16
    dense_ptr,  # [rows, most, SPAN] int32
    k,
    programs,
    most,
    PADDED: tl.constexpr,
    KEPT: tl.constexpr,
    GROUPS: tl.constexpr,
    SPAN: tl.constexpr,
    WIDE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    if tl.load(repaired_ptr + row) != 0:
        lane = tl.arange(0, GROUPS * KEPT)
        best = tl.full([PADDED], -1, tl.int64)
        for start in range(0, programs, GROUPS):
            # candidates of programs that hide nothing
            program = start + lane // KEPT
            mask = program < programs
            rank = tl.load(ranks_ptr + row * programs + program, mask=mask, other=0)
            at = (row * programs + start) * KEPT + lane
            keys = tl.load(keys_ptr + at, mask=mask & (rank < 0), other=-1)
            place = tl.load(places_ptr + at, mask=mask & (rank < 0), other=0)
            entries = _entries(keys, _dealt(place.to(tl.int32), program, programs))
            best = _merge(best, entries, PADDED)
        for program in range(programs):
            rank = tl.load(ranks_ptr + row * programs + program).to(tl.int64)
            if rank >= 0:
                for start in range(0, SPAN, WIDE):
                    place = start + tl.arange(0, WIDE)
                    at = (row * most + rank) * SPAN + place
                    keys = tl.load(dense_ptr + at, mask=place < SPAN, other=-1)
                    entries = _entries(keys, _dealt(place, program, programs))
                    best = _merge(best, entries, PADDED)
        _store_row(best, values_ptr, indices_ptr, row, k, PADDED)
