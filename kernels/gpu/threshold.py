# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""encode_threshold by Triton: the dense pre-activations are never written.

A program runs the GEMM of some rows with consecutive features and writes what fires, in order, to
``ROOM`` slots of its own for each row; it counts what fires beyond them. A prefix sum over the
counts gives every program its place in the result. One kernel moves the slots there. Where a count
exceeds ``ROOM``, the tile is computed again and written straight to its place: its counts are known
by then, so one repair is enough. No atomics: the same bits under any schedule.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from isogloss.kernels.gpu.configs import EncodeConfig, encode_config, register_limit
from isogloss.kernels.gpu.dealing import _dealt
from isogloss.kernels.gpu.tiles import _spread, _tile_keys, loadable, tile_dtype
from isogloss.kernels.values.codes import Codes

ROOM = 32
"""Entries of a row that a program of 768 features has room for; 8 bytes each, 8.3 % of a dense
float32 matrix. Only slots in use are written, so room costs memory and no traffic. Poisson: with
256 entries a row spread over 24,576 features a program expects 8 and overflows in one row of 10^10;
where a prefix crowds 24 into one program, in one of 20."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TileGrid:
    """How rows and features are divided among programs."""

    tile: EncodeConfig
    """Rows and features of a program."""
    room: int
    """Slots of a row in a program; a power of two."""
    programs: int
    """Programs along the features."""
    blocks: int
    """Programs along the rows."""

    @classmethod
    def of(cls, rows: int, features: int, tile: EncodeConfig, room: int) -> "TileGrid":
        """The grid that covers all rows and features."""
        return cls(
            tile=tile,
            room=room,
            programs=triton.cdiv(features, tile.columns * tile.tiles),
            blocks=triton.cdiv(rows, tile.rows),
        )

    @property
    def constants(self) -> dict[str, int]:
        """Constants and launch options of the kernels that compute tiles."""
        return {
            "ROWS": self.tile.rows,
            "COLUMNS": self.tile.columns,
            "TILES": self.tile.tiles,
            "DEPTH": self.tile.depth,
            "num_warps": self.tile.warps,
            "num_stages": self.tile.stages,
        }


def encode_threshold(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    limits: Tensor,
    config: EncodeConfig | None = None,
    room: int = ROOM,
) -> tuple[Codes, int, int]:
    """``isogloss.kernels.encode_threshold``, how many tiles there are, and how many were repaired.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``, contiguous.
        bias: ``[features]``.
        limits: float32 ``[features]``, not negative.
        config: rows and features of a program; its ``kept`` is not used.
        room: entries of a row a program has slots for; a power of two.

    Returns:
        The codes, the number of tiles, and the number of repaired ones.
    """
    rows = x.shape[0]
    features, device = weight.shape[0], x.device
    tile = config or encode_config(tile_dtype(x, weight), device)
    x, weight = loadable(x, weight, tile.depth)
    grid, width = TileGrid.of(rows, features, tile, room), x.shape[1]
    slots = torch.empty(rows, grid.programs, room, dtype=torch.int64, device=device)
    counts = torch.empty(rows, grid.programs, dtype=torch.int32, device=device)
    source = (x, weight, bias.contiguous(), limits.view(torch.int32))
    sizes = (rows, features, width, grid.programs, x.stride(0))
    shape = {"ROOM": room, **grid.constants, **register_limit(device)}
    if rows:
        _fire_kernel[(grid.blocks, grid.programs)](*source, slots, counts, *sizes, **shape)
    starts, blocks, entries = places(counts, room, grid)
    values = torch.empty(entries, device=device)
    indices = torch.empty(entries, dtype=torch.int32, device=device)
    if entries:
        lists = {"ROOM": room, "GROUPS": groups(grid.programs, room), "num_warps": 4}
        _move_kernel[(rows,)](slots, counts, starts, values, indices, grid.programs, **lists)
    if blocks.numel():
        found = (blocks, counts, starts, values, indices)
        shape |= again(grid.tile)
        _repair_kernel[(blocks.numel(),)](*source, *found, *sizes, DEALT=False, **shape)
    offsets = starts[:: grid.programs]
    codes = Codes(values=values, indices=indices, features=features, offsets=offsets.contiguous())
    return codes, grid.blocks * grid.programs, blocks.numel()


def again(tile: EncodeConfig) -> dict[str, int]:
    """Choose the tile of a program that computes again: the same features, at most 64 at once.

    With 128 at once it spilled registers on sm89 and sm90. The sums run along the width as before,
    so the bits are the same.

    Args:
        tile: the one of the first pass.

    Returns:
        ``COLUMNS`` and ``TILES``.
    """
    columns = min(tile.columns, 64)
    return {"COLUMNS": columns, "TILES": tile.columns * tile.tiles // columns}


def groups(programs: int, room: int) -> int:
    """Programs whose slots are moved at once: at most 1,024 slots."""
    return max(1, min(triton.next_power_of_2(programs), 1024 // room))


def places(counts: Tensor, room: int, grid: TileGrid) -> tuple[Tensor, Tensor, int]:
    """Compute the position in the result of each program's entries, from their numbers.

    Args:
        counts: int32 ``[rows, programs]``.
        room: slots of a row in a program.
        grid: how rows and features are divided among programs.

    Returns:
        starts int64 ``[rows * programs + 1]``; overflowing programs int32, ``block * programs +
        program``; and the number of all entries. Waits for the device: sizes depend on it.
    """
    starts = torch.zeros(counts.numel() + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts.view(-1), 0, out=starts[1:])
    over = counts > room
    entries, overflows = torch.stack((starts[-1], over.sum())).tolist()
    if overflows:
        return starts, blocks_with(over, grid), entries
    return starts, torch.empty(0, dtype=torch.int32, device=counts.device), entries


def blocks_with(marked: Tensor, grid: TileGrid) -> Tensor:
    """Tiles with a marked row, int32 ``block * programs + program``; marks ``[rows, programs]``."""
    short = grid.blocks * grid.tile.rows - marked.shape[0]
    marked = torch.nn.functional.pad(marked, (0, 0, 0, short))
    tiles = marked.view(grid.blocks, grid.tile.rows, grid.programs).any(1)
    return tiles.view(-1).nonzero().view(-1).int()


@triton.jit(do_not_specialize=("rows",))
def _fire_kernel(
    x_ptr,  # [rows, width], rows x_stride apart
    weight_ptr,  # [features, width]
    bias_ptr,  # [features]
    limits_ptr,  # [features] int32: bits of float32, not negative
    slots_ptr,  # out [rows, programs, ROOM] int64: bits of the value above, the feature below
    counts_ptr,  # out [rows, programs] int32
    rows,
    features,
    width,
    programs,
    x_stride,
    ROOM: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    program = tl.program_id(1).to(tl.int64)
    found = tl.zeros([ROWS], tl.int32)
    for tile in range(TILES):
        feature = (program * TILES + tile) * COLUMNS + tl.arange(0, COLUMNS)
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
        keys, count = _firing(keys, limits_ptr, feature, features, COLUMNS)
        out = (row * programs + program) * ROOM
        for n in range(tl.minimum(tl.max(count, axis=0), ROOM)):
            keys, key, at = _take(keys, COLUMNS)
            packed = (key.to(tl.int64) << 32) | ((program * TILES + tile) * COLUMNS + at)
            packed = tl.where(
                (found + n < ROOM) & (row < rows), packed, -1
            )  # -1 without a key, too
            tl.store(slots_ptr + out + found + n, packed, mask=packed >= 0)
        found += count
    tl.store(counts_ptr + row * programs + program, found, mask=row < rows)


@triton.jit
def _firing(keys, limits_ptr, feature, features, COLUMNS: tl.constexpr):
    """The keys of a tile that fire, -1 elsewhere, and how many each row has."""
    limit = tl.sum(_spread(limits_ptr, feature, features, 0, COLUMNS), axis=1)
    fires = (limit[None, :] - keys) >> 31  # -1 where the key is above; outside of the tile it is -1
    # sums of conditions became bit counts by way of local memory
    return tl.where(fires != 0, keys, -1), -tl.sum(fires, axis=1)


@triton.jit
def _take(keys, COLUMNS: tl.constexpr):
    """Take the first key of each row from a tile: what is left, the key (-1: none), its column.

    A round costs two reductions in registers. Few keys of a tile fire, so the rounds are few; a
    prefix sum over the tile, tried first, spilled 144 registers on sm90 and took 128 KiB of shared
    memory.
    """
    column = tl.arange(0, COLUMNS)[None, :]
    at = tl.min(tl.where(keys >= 0, column, COLUMNS), axis=1)
    taken = column == at[:, None]
    return tl.where(taken, -1, keys), tl.max(tl.where(taken, keys, -1), axis=1), at


@triton.jit
def _move_kernel(
    slots_ptr,  # [rows, programs, ROOM] int64
    counts_ptr,  # [rows, programs] int32
    starts_ptr,  # [rows * programs + 1] int64
    values_ptr,  # out [entries]
    indices_ptr,  # out [entries] int32
    programs,
    ROOM: tl.constexpr,
    GROUPS: tl.constexpr,
):
    base = tl.program_id(0).to(tl.int64) * programs
    slot = tl.arange(0, ROOM)
    for start in range(0, programs, GROUPS):
        group = start + tl.arange(0, GROUPS)
        count = tl.load(counts_ptr + base + group, mask=group < programs, other=0)
        first = tl.load(starts_ptr + base + group, mask=group < programs, other=0)
        mask = (slot[None, :] < count[:, None]) & (count <= ROOM)[:, None]
        packed = tl.load(
            slots_ptr + (base + group)[:, None] * ROOM + slot[None, :], mask=mask, other=0
        )
        out = first[:, None] + slot[None, :]
        value = (packed >> 32).to(tl.int32).to(tl.float32, bitcast=True)
        tl.store(values_ptr + out, value, mask=mask)
        tl.store(indices_ptr + out, packed.to(tl.int32), mask=mask)


@triton.jit(do_not_specialize=("rows",))
def _repair_kernel(
    x_ptr,  # [rows, width], rows x_stride apart
    weight_ptr,  # [features, width]
    bias_ptr,  # [features]
    limits_ptr,  # [features] int32: bits of float32, not negative
    blocks_ptr,  # [overflowing programs] int32
    counts_ptr,  # [rows, programs] int32
    starts_ptr,  # [rows * programs + 1] int64
    values_ptr,  # out [entries]
    indices_ptr,  # out [entries] int32
    rows,
    features,
    width,
    programs,
    x_stride,
    ROOM: tl.constexpr,
    DEALT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    block = tl.load(blocks_ptr + tl.program_id(0))
    program = (block % programs).to(tl.int64)
    row = (block // programs).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    own = row * programs + program
    count = tl.load(counts_ptr + own, mask=row < rows, other=0)
    first = tl.load(starts_ptr + own, mask=row < rows, other=0)
    found = tl.zeros([ROWS], tl.int32)
    for tile in range(TILES):
        start = (program * TILES + tile) * COLUMNS
        feature = start + tl.arange(0, COLUMNS)
        if DEALT:
            feature = _dealt(tile * COLUMNS + tl.arange(0, COLUMNS), program, programs)
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
        keys, held = _firing(keys, limits_ptr, feature, features, COLUMNS)
        held = tl.where(count > ROOM, tl.minimum(held, count - found), 0)  # never beyond its place
        for n in range(tl.max(held, axis=0)):
            keys, key, at = _take(keys, COLUMNS)
            index = start + at
            if DEALT:
                index = _dealt(tile * COLUMNS + at, program, programs)
            index = tl.where(n < held, index, -1).to(tl.int32)
            out = first + found + n
            tl.store(values_ptr + out, key.to(tl.float32, bitcast=True), mask=index >= 0)
            tl.store(indices_ptr + out, index, mask=index >= 0)
        found += held
