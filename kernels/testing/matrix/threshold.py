"""The cases of encode_threshold, and what they share with those of encode_batch_topk."""

from collections.abc import Iterator

import torch

from isogloss.kernels.gpu import threshold
from isogloss.kernels.gpu.configs import MOST_REGISTERS, EncodeConfig, table_config
from isogloss.kernels.testing.matrix.case import Case

SIZES = dict.fromkeys(("rows", "features", "width", "programs", "x_stride"), "i32")
"""Sizes that the kernels which compute tiles take."""

OUT = {"starts_ptr": "*i64", "values_ptr": "*fp32", "indices_ptr": "*i32"}
"""Where entries are written."""


def tiles(target: str) -> Iterator[tuple[str, EncodeConfig]]:
    """Each dtype with its tile from the table."""
    for dtype, kind in (
        ("bf16", torch.bfloat16),
        ("fp32", torch.float32),
        ("fp16", torch.float16),
    ):
        yield dtype, table_config(target, kind)


def threshold_cases(target: str) -> Iterator[Case]:
    """The kernels of ``encode_threshold`` as they are launched on ``target``."""
    for dtype, config in tiles(target):
        yield from _fire_cases(dtype, config)


def tile_constants(config: EncodeConfig) -> dict[str, int]:
    """The constants of a kernel that computes tiles."""
    return {
        "ROWS": config.rows,
        "COLUMNS": config.columns,
        "TILES": config.tiles,
        "DEPTH": config.depth,
    }


def source_types(dtype: str, *, limits: bool = True) -> dict[str, str]:
    """The types of what a kernel that computes tiles reads; ``limits``: with the thresholds."""
    inputs = {"x_ptr": f"*{dtype}", "weight_ptr": f"*{dtype}", "bias_ptr": f"*{dtype}"}
    return {**inputs, "limits_ptr": "*i32"} if limits else inputs


def _fire_cases(dtype: str, config: EncodeConfig) -> Iterator[Case]:
    shape, room = tile_constants(config), threshold.ROOM
    size = f"{config.rows}x{config.columns}x{config.tiles}"
    label = f"{dtype} {size} room {room}"
    lists = {"counts_ptr": "*i32"}
    again = {**threshold.again(config), "DEALT": 0}
    for name, kernel, further, own in (
        ("candidates", threshold._fire_kernel, {**lists, "slots_ptr": "*i64"}, {}),
        ("repair", threshold._repair_kernel, {**lists, "blocks_ptr": "*i32", **OUT}, again),
    ):
        yield Case(
            name=f"threshold {name} {label}",
            kernel=kernel,
            arguments={**source_types(dtype), **further, **SIZES},
            constants={**shape, "ROOM": room, **own},
            warps=config.warps,
            stages=config.stages,
            most_registers=MOST_REGISTERS,
            wide=True,
            dots=True,
            matrix=dtype != "fp32",
        )
    for programs in (1, 32):
        yield Case(
            name=f"threshold move room {room} programs {programs}",
            kernel=threshold._move_kernel,
            arguments={"slots_ptr": "*i64", "counts_ptr": "*i32", **OUT, "programs": "i32"},
            constants={"ROOM": room, "GROUPS": threshold.groups(programs, room)},
            ones=("programs",) if programs == 1 else (),
            warps=4,
        )
