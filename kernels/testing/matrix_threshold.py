"""The compile matrix of encoding by threshold and by batch, and of prefixes; see ``matrix``."""

from collections.abc import Iterator

import torch

from isogloss.kernels.gpu import batch_topk, encode, prefixes, threshold
from isogloss.kernels.gpu.configs import MOST_REGISTERS, EncodeConfig, table_config
from isogloss.kernels.gpu.decode import row_warps
from isogloss.kernels.testing.cases import Case

_SIZES = dict.fromkeys(("rows", "features", "width", "programs", "x_stride"), "i32")
_OUT = {"starts_ptr": "*i64", "values_ptr": "*fp32", "indices_ptr": "*i32"}
_SHAPES = ((32, 24_576), (64, 131_072), (128, 4_096), (512, 24_576), (512, 512))
"""k and features of BatchTopK: between them every ``kept`` and both kinds of ``tiles``."""


def threshold_cases(target: str) -> Iterator[Case]:
    """The kernels of this file's operations as they are launched on ``target``."""
    for dtype, kind in (
        ("bf16", torch.bfloat16),
        ("fp32", torch.float32),
        ("fp16", torch.float16),
    ):
        for even in (True,) if dtype == "fp16" else (True, False):
            config = table_config(target, kind, even=even)
            yield from _fire_cases(dtype, config, even=even)
            for k, features in _SHAPES if even else _SHAPES[:1]:
                tile = batch_topk.roomy(config, k, features)
                yield from _repair_cases(dtype, tile, features, even=even)
    yield from _radix_cases()
    yield _prefix_case("fp32", 768, ragged=0)
    yield _prefix_case("bf16", 4096, ragged=1)


def _tile(config: EncodeConfig, *, even: bool) -> dict[str, int]:
    return {
        "ROWS": config.rows,
        "COLUMNS": config.columns,
        "TILES": config.tiles,
        "DEPTH": config.depth,
        "EVEN": int(even),
    }


def _source(dtype: str, *, limits: bool = True) -> dict[str, str]:
    inputs = {"x_ptr": f"*{dtype}", "weight_ptr": f"*{dtype}", "bias_ptr": f"*{dtype}"}
    return {**inputs, "limits_ptr": "*i32"} if limits else inputs


def _fire_cases(dtype: str, config: EncodeConfig, *, even: bool) -> Iterator[Case]:
    """Of ``encode_threshold``."""
    shape, room = _tile(config, even=even), threshold.ROOM
    size = f"{config.rows}x{config.columns}x{config.tiles}"
    label = f"{dtype} {size} room {room}{'' if even else ' uneven'}"
    lists = {"counts_ptr": "*i32"}
    again = {**threshold.again(config), "STRIDED": 0}
    for name, kernel, further, own in (
        ("candidates", threshold._fire_kernel, {**lists, "slots_ptr": "*i64"}, {}),
        ("repair", threshold._repair_kernel, {**lists, "blocks_ptr": "*i32", **_OUT}, again),
    ):
        yield Case(
            name=f"threshold {name} {label}",
            kernel=kernel,
            arguments={**_source(dtype), **further, **_SIZES},
            constants={**shape, "ROOM": room, **own},
            warps=config.warps,
            stages=config.stages,
            most_registers=MOST_REGISTERS,
            wide=even,
            even=even,
            dots=even,
            matrix=dtype != "fp32",
        )
    for programs in (1, 32):
        yield Case(
            name=f"threshold move room {room} programs {programs}",
            kernel=threshold._move_kernel,
            arguments={"slots_ptr": "*i64", "counts_ptr": "*i32", **_OUT, "programs": "i32"},
            constants={"ROOM": room, "GROUPS": threshold.groups(programs, room)},
            ones=("programs",) if programs == 1 else (),
            warps=4,
        )


def _repair_cases(dtype: str, config: EncodeConfig, features: int, *, even: bool) -> Iterator[Case]:
    """Of ``encode_batch_topk``; its candidates are those of ``encode_topk``."""
    shape, kept = _tile(config, even=even), config.kept
    programs = -(-features // (config.columns * config.tiles))
    size = f"{config.rows}x{config.columns}x{config.tiles}"
    label = f"{dtype} of {features}, {size} keep {kept}{'' if even else ' uneven'}"
    ones = ("programs",) if programs == 1 else ()
    found = {"keys_ptr": "*i32", "places_ptr": "*i16"}
    yield Case(  # that of encode_topk, once more: what repairs it must multiply alike
        name=f"batch candidates {label}",
        kernel=encode._candidates_kernel,
        arguments={**_source(dtype, limits=False), **found, **_SIZES},
        constants={**shape, "KEPT": kept},
        warps=config.warps,
        stages=config.stages,
        wide=even,
        even=even,
        ones=ones,
        matrix=dtype != "fp32",
    )
    lists = {"blocks_ptr": "*i32", "counts_ptr": "*i32"}
    halves = {**shape, **threshold.again(config)}
    for name, kernel, further, strided in (
        ("recount", batch_topk._recount_kernel, lists, {}),
        ("repair", threshold._repair_kernel, {**lists, **_OUT}, {"STRIDED": 1}),
    ):
        yield Case(
            name=f"batch {name} {label}",
            kernel=kernel,
            arguments={**_source(dtype), **further, **_SIZES},
            constants={**halves, "ROOM": kept, **strided},
            warps=config.warps,
            stages=config.stages,
            most_registers=MOST_REGISTERS,
            wide=even,
            even=even,
            ones=ones,
            matrix=dtype != "fp32",
        )
    groups = threshold.groups(programs, kept)
    keys = {"keys_ptr": "*i32", "bound_ptr": "*i32", "counts_ptr": "*i32", "programs": "i32"}
    yield Case(
        name=f"batch tally keep {kept} groups {groups}",
        kernel=batch_topk._tally_kernel,
        arguments=keys,
        constants={"ROOM": kept, "GROUPS": groups},
        ones=ones,
        warps=4,
    )
    yield Case(
        name=f"batch gather keep {kept} groups {groups}",
        kernel=batch_topk._gather_kernel,
        arguments={**keys, **_OUT, "slots_ptr": "*i16"},
        constants={"ROOM": kept, "GROUPS": groups},
        ones=ones,
        warps=4,
    )


def _radix_cases() -> Iterator[Case]:
    shape = {"BINS": batch_topk.BINS}
    for high, low in batch_topk.DIGITS:
        yield Case(
            name=f"batch histogram bits {low} to {high}",
            kernel=batch_topk._histogram_kernel,
            arguments={
                "keys_ptr": "*i32",
                "state_ptr": "*i64",
                "counts_ptr": "*i32",
                "size": "i32",
            },
            constants={**shape, "HIGH": high, "LOW": low, "AT_ONCE": batch_topk.AT_ONCE},
            warps=4,
        )
        for ones in ((), ("blocks",)):
            yield Case(
                name=f"batch digit from bit {low}{' of one block' if ones else ''}",
                kernel=batch_topk._digit_kernel,
                arguments={"counts_ptr": "*i32", "state_ptr": "*i64", "blocks": "i32"},
                constants={**shape, "LOW": low, "AT_ONCE": 8},
                ones=ones,
                warps=8,
            )


def _prefix_case(dtype: str, width: int, *, ragged: int) -> Case:
    return Case(
        name=f"prefixes {dtype} width={width}{' ragged' if ragged else ''}",
        kernel=prefixes._prefixes_kernel,
        arguments={
            "values_ptr": "*fp32",
            "indices_ptr": "*i32",
            "offsets_ptr": "*i64",
            "edges_ptr": "*i32",
            "weight_ptr": f"*{dtype}",
            "bias_ptr": f"*{dtype}",
            "out_ptr": f"*{dtype}",
            **dict.fromkeys(("rows", "prefixes", "width", "k"), "i32"),
        },
        constants={"RAGGED": ragged, "BIAS": 1, "WIDTH": 1 << (width - 1).bit_length()},
        warps=row_warps(width),
        wide=True,
    )
