# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""encode_batch_topk by Triton: candidates, a bound, repairs, and an exact selection.

The candidates are those of ``encode_topk``: the best few of each row in each program. Two digits of
a radix select over them give a lower bound of the last value that the whole batch chooses. A
program whose worst candidate reaches the bound may hide others: it is counted again, and computed
once more to write what the count found. All entries that reach the bound are then at hand, few more
than wanted, and a full radix select among them is exact. Histograms are summed from blocks, without
global atomics: the same bits under any schedule.
"""

from typing import NamedTuple

import torch
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
from isogloss.kernels.gpu.encode import _candidates_kernel
from isogloss.kernels.gpu.threshold import (
    TileGrid,
    _firing,
    _repair_kernel,
    again,
    blocks_with,
    groups,
    places,
)
from isogloss.kernels.gpu.tiles import _tile_keys, loadable, tile_dtype
from isogloss.kernels.values.codes import Codes

DIGITS = ((31, 20), (20, 9), (9, 0))
"""Bits of a key that each pass of the radix select reads: below the first, from the second on."""

BINS = 1 << 11
"""Bins of a histogram."""

AT_ONCE = 2048
"""Keys that a program of a histogram reads at once."""

_MOST_BLOCKS = 256


def encode_batch_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, config: EncodeConfig | None = None
) -> tuple[Codes, Tensor, int, int]:
    """``isogloss.kernels.encode_batch_topk``.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
        k: mean entries a row.
        config: rows and features of a program; None for the table's.

    Returns:
        The codes, the smallest value chosen, how many tiles there are, and how many were repaired.
    """
    rows, features = x.shape[0], weight.shape[0]
    tile = config or roomy(encode_config(tile_dtype(x, weight), x.device), k, features)
    x, weight = loadable(x, weight, tile.depth)
    grid = TileGrid.of(rows, features, tile, tile.kept)
    none = torch.empty(0, dtype=torch.int32, device=x.device)
    found = (none, none, none)
    repaired = 0
    if rows:
        call = _Call(x, weight, bias.contiguous(), grid)
        found, repaired = _reaching(call, *_candidates(call), k * rows)
    codes, threshold = _select(*found, k * rows, (rows, features))
    return codes, threshold, grid.blocks * grid.programs, repaired


class _Call(NamedTuple):
    """The arguments of the kernels that compute tiles."""

    x: Tensor
    """``[rows, width]``."""
    weight: Tensor
    """``[features, width]``."""
    bias: Tensor
    """``[features]``."""
    grid: TileGrid
    """Numbers of programs."""

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Rows, features, width, programs, and the stride of the rows."""
        features, width = self.weight.shape
        return self.x.shape[0], features, width, self.grid.programs, self.x.stride(0)


def _candidates(call: _Call) -> tuple[Tensor, Tensor]:
    """Best keys of each row in each program, int32 ``[rows, programs, kept]``, and their places."""
    grid, device = call.grid, call.x.device
    keys = torch.empty(call.x.shape[0], grid.programs, grid.room, dtype=torch.int32, device=device)
    slots = torch.empty(keys.shape, dtype=torch.int16, device=device)
    options = grid.constants | candidate_registers(call.weight.dtype, device)
    _candidates_kernel[(grid.blocks, grid.programs)](
        *call[:3], keys, slots, *call.sizes, KEPT=grid.room, **options
    )
    return keys, slots


def _reaching(
    call: _Call, keys: Tensor, slots: Tensor, wanted: int
) -> tuple[tuple[Tensor, Tensor, Tensor], int]:
    """Find all entries that reach a bound. At least ``wanted`` do, where so many are positive.

    Args:
        call: the inputs.
        keys: best keys of each row in each program.
        slots: their places.
        wanted: entries of the whole batch.

    Returns:
        Rows int64, features int32 and bits int32 of the entries, rows ascending; and how many tiles
        were repaired.
    """
    grid, device = call.grid, call.x.device
    rows, features = call.sizes[:2]
    bound = select_radix(keys.view(-1), wanted, DIGITS[:2])[0].clamp(min=1).int()
    counts = torch.empty(rows, grid.programs, dtype=torch.int32, device=device)
    lists = {"ROOM": grid.room, "GROUPS": groups(grid.programs, grid.room), "num_warps": 4}
    _tally_kernel[(rows,)](keys, bound, counts, grid.programs, **lists)
    limits = (bound - 1).expand(features).contiguous()
    source = (*call[:3], limits)
    shape = grid.constants | again(grid.tile) | register_limit(device)
    hiding = blocks_with(counts == grid.room, grid)
    if hiding.numel():
        _recount_kernel[(hiding.numel(),)](
            *source, hiding, counts, *call.sizes, ROOM=grid.room, **shape
        )
    starts, blocks, entries = places(counts, grid.room, grid)
    values = torch.empty(entries, device=device)
    indices = torch.empty(entries, dtype=torch.int32, device=device)
    found = (counts, starts, values, indices)
    if entries:
        _gather_kernel[(rows,)](keys, slots, bound, *found, grid.programs, **lists)
    if blocks.numel():
        _repair_kernel[(blocks.numel(),)](
            *source, blocks, *found, *call.sizes, ROOM=grid.room, DEALT=True, **shape
        )
    every = torch.arange(rows, device=device)
    lengths = starts[:: grid.programs].diff()
    row = torch.repeat_interleave(every, lengths, output_size=entries)
    return (row, indices, values.view(torch.int32)), hiding.numel()


def roomy(config: EncodeConfig, k: int, features: int) -> EncodeConfig:
    """Choose the tile for a mean of ``k`` of ``features``: that of ``encode_topk`` for ``2 * k``.

    Rows differ in their number of entries. Where it has a mean of 32 and a standard deviation of
    34, over 24,576 features, 3 % of the tiles hide entries; with the tile for ``k`` it was 52 %.

    Args:
        config: the tile from the table.
        k: mean entries a row.
        features: number of features of the dictionary.

    Returns:
        The tile.
    """
    return fitted(config, min(2 * k, features), features)


def _select(
    row: Tensor, indices: Tensor, keys: Tensor, wanted: int, shape: tuple[int, int]
) -> tuple[Codes, Tensor]:
    """The ``wanted`` best entries by (value descending, row, feature), and the last one's value."""
    rows, features = shape
    order = torch.argsort(row * features + indices)
    row, indices, keys = row[order], indices[order], keys[order]
    if keys.numel() > wanted:
        last, room = select_radix(keys, wanted, DIGITS)
        ties = keys == last
        kept = (keys > last) | (ties & (ties.cumsum(0) <= room))
        row, indices, keys = row[kept], indices[kept], keys[kept]
    offsets = torch.searchsorted(row, torch.arange(rows + 1, device=row.device))
    codes = Codes(
        values=keys.view(torch.float32), indices=indices, features=features, offsets=offsets
    )
    least = keys.min() if keys.numel() else torch.zeros((), dtype=torch.int32, device=keys.device)
    return codes, least.view(torch.float32)


def select_radix(keys: Tensor, wanted: int, digits: tuple[tuple[int, int], ...]) -> Tensor:
    """The ``wanted``-th largest of positive keys, by histograms of one digit after another.

    Args:
        keys: int32 ``[entries]``; those not positive do not count.
        wanted: at least 1.
        digits: the bits of each pass, from the highest on; where the last pass does not end at bit
            0, the result is rounded down: a lower bound.

    Returns:
        int64 ``[2]``: the key (0 where fewer are positive), and how many of the keys with the same
        digits are among the wanted. Stays on the device.
    """
    blocks = min(_MOST_BLOCKS, triton.cdiv(keys.numel(), 8 * AT_ONCE))
    counts = torch.empty(blocks, BINS, dtype=torch.int32, device=keys.device)
    state = torch.zeros(2, dtype=torch.int64, device=keys.device)
    state[1:].fill_(
        wanted
    )  # a number of the host as a tensor would be copied there, and waited for
    for high, low in digits:
        _histogram_kernel[(blocks,)](
            keys, state, counts, keys.numel(), HIGH=high, LOW=low, BINS=BINS, AT_ONCE=AT_ONCE
        )
        _digit_kernel[(1,)](counts, state, blocks, LOW=low, BINS=BINS, AT_ONCE=8, num_warps=8)
    return state


@triton.jit(do_not_specialize=("size",))
def _histogram_kernel(
    keys_ptr,  # [size] int32
    state_ptr,  # [2] int64: the digits found so far, and how many keys are wanted
    counts_ptr,  # out [programs, BINS] int32
    size,
    HIGH: tl.constexpr,
    LOW: tl.constexpr,
    BINS: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    found = tl.load(state_ptr).to(tl.int32)
    total = tl.zeros([BINS], tl.int32)
    step = tl.num_programs(0).to(tl.int64) * AT_ONCE
    for start in range(program * AT_ONCE, size, step):
        at = start + tl.arange(0, AT_ONCE)
        key = tl.load(keys_ptr + at, mask=at < size, other=-1)
        inside = (key > 0) & ((key >> HIGH) == (found >> HIGH))
        digit = (key >> LOW) & ((1 << (HIGH - LOW)) - 1)
        total += tl.histogram(digit, BINS, mask=inside)
    tl.store(counts_ptr + program * BINS + tl.arange(0, BINS), total)


@triton.jit
def _digit_kernel(
    counts_ptr,  # [blocks, BINS] int32
    state_ptr,  # in and out [2] int64: the digits found so far, and how many keys are wanted
    blocks,
    LOW: tl.constexpr,
    BINS: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    digit = tl.arange(0, BINS)
    total = tl.zeros([BINS], tl.int64)
    for start in range(0, blocks, AT_ONCE):
        block = start + tl.arange(0, AT_ONCE)
        at = block[:, None] * BINS + digit[None, :]
        part = tl.load(counts_ptr + at, mask=(block < blocks)[:, None], other=0)
        total += tl.sum(part.to(tl.int64), axis=0)
    wanted = tl.load(state_ptr + 1)
    reaching = tl.cumsum(total, axis=0, reverse=True) >= wanted
    chosen = tl.maximum(tl.sum(reaching.to(tl.int64), axis=0) - 1, 0)
    above = tl.sum(tl.where(digit > chosen, total, 0), axis=0)
    tl.store(state_ptr, tl.load(state_ptr) | (chosen << LOW))
    tl.store(state_ptr + 1, wanted - above)


@triton.jit
def _tally_kernel(
    keys_ptr,  # [rows, programs, ROOM] int32
    bound_ptr,  # [] int32
    counts_ptr,  # out [rows, programs] int32: candidates that reach the bound
    programs,
    ROOM: tl.constexpr,
    GROUPS: tl.constexpr,
):
    base = tl.program_id(0).to(tl.int64) * programs
    bound = tl.load(bound_ptr)
    slot = tl.arange(0, ROOM)
    for start in range(0, programs, GROUPS):
        group = start + tl.arange(0, GROUPS)
        at = (base + group)[:, None] * ROOM + slot[None, :]
        mask = (group < programs)[:, None] & (slot >= 0)[None, :]
        keys = tl.load(keys_ptr + at, mask=mask, other=-1)
        count = tl.sum((keys >= bound).to(tl.int32), axis=1)
        tl.store(counts_ptr + base + group, count, mask=group < programs)


@triton.jit(do_not_specialize=("rows",))
def _recount_kernel(
    x_ptr,  # [rows, width], rows x_stride apart
    weight_ptr,  # [features, width]
    bias_ptr,  # [features]
    limits_ptr,  # [features] int32: the bound less 1
    blocks_ptr,  # [hiding programs] int32
    counts_ptr,  # in and out [rows, programs] int32: ROOM becomes what really reaches the bound
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
    block = tl.load(blocks_ptr + tl.program_id(0))
    program = (block % programs).to(tl.int64)
    row = (block // programs).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    own = counts_ptr + row * programs + program
    count = tl.load(own, mask=row < rows, other=0)
    found = tl.zeros([ROWS], tl.int32)
    for tile in range(TILES):
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
        found += _firing(keys, limits_ptr, feature, features, COLUMNS)[1]
    # at least the candidates, which the next kernel writes where nothing more is found
    tl.store(own, tl.maximum(found, ROOM), mask=(row < rows) & (count == ROOM))


@triton.jit
def _gather_kernel(
    keys_ptr,  # [rows, programs, ROOM] int32
    slots_ptr,  # [rows, programs, ROOM] int16: places of the features in their program
    bound_ptr,  # [] int32
    counts_ptr,  # [rows, programs] int32; more than ROOM: left to the repair
    starts_ptr,  # [rows * programs + 1] int64
    values_ptr,  # out [entries]
    indices_ptr,  # out [entries] int32
    programs,
    ROOM: tl.constexpr,
    GROUPS: tl.constexpr,
):
    base = tl.program_id(0).to(tl.int64) * programs
    bound = tl.load(bound_ptr)
    slot = tl.arange(0, ROOM)
    for start in range(0, programs, GROUPS):
        group = start + tl.arange(0, GROUPS)
        count = tl.load(counts_ptr + base + group, mask=group < programs, other=0)
        first = tl.load(starts_ptr + base + group, mask=group < programs, other=0)
        some = (count > 0) & (count <= ROOM)
        at = (base + group)[:, None] * ROOM + slot[None, :]
        mask = some[:, None] & (slot >= 0)[None, :]
        keys = tl.load(keys_ptr + at, mask=mask, other=-1)
        mask = mask & (keys >= bound)
        place = tl.load(slots_ptr + at, mask=mask, other=0).to(tl.int32)
        out = first[:, None] + tl.cumsum(mask.to(tl.int32), axis=1) - 1
        tl.store(values_ptr + out, keys.to(tl.float32, bitcast=True), mask=mask)
        feature = _dealt(place, group[:, None], programs)
        tl.store(indices_ptr + out, feature.to(tl.int32), mask=mask)
