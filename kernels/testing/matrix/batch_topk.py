"""The cases of encode_batch_topk."""

from collections.abc import Iterator

from isogloss.kernels.gpu import batch_topk, encode, threshold
from isogloss.kernels.gpu.configs import MOST_REGISTERS, EncodeConfig
from isogloss.kernels.testing.matrix.case import Case
from isogloss.kernels.testing.matrix.threshold import (
    OUT,
    SIZES,
    source_types,
    tile_constants,
    tiles,
)

_SHAPES = ((32, 24_576), (64, 131_072), (128, 4_096), (512, 24_576), (512, 512))
"""k and features of BatchTopK: between them every ``kept`` and both kinds of ``tiles``."""


def batch_topk_cases(target: str) -> Iterator[Case]:
    """The kernels of ``encode_batch_topk`` as they are launched on ``target``."""
    for dtype, config in tiles(target):
        for k, features in _SHAPES:
            tile = batch_topk.roomy(config, k, features)
            yield from _repair_cases(dtype, tile, features)
    yield from _radix_cases()


def _repair_cases(dtype: str, config: EncodeConfig, features: int) -> Iterator[Case]:
    """Candidates as in ``encode_topk``, and the kernels that repair, count and gather."""
    shape, kept = tile_constants(config), config.kept
    programs = -(-features // (config.columns * config.tiles))
    size = f"{config.rows}x{config.columns}x{config.tiles}"
    label = f"{dtype} of {features}, {size} keep {kept}"
    ones = ("programs",) if programs == 1 else ()
    found = {"keys_ptr": "*i32", "places_ptr": "*i16"}
    yield Case(  # encode_topk's kernel again: what repairs it is compared with it
        name=f"batch candidates {label}",
        kernel=encode._candidates_kernel,
        arguments={**source_types(dtype, limits=False), **found, **SIZES},
        constants={**shape, "KEPT": kept},
        warps=config.warps,
        stages=config.stages,
        wide=True,
        ones=ones,
        matrix=dtype != "fp32",
        most_registers=MOST_REGISTERS if dtype == "fp32" else None,
    )
    lists = {"blocks_ptr": "*i32", "counts_ptr": "*i32"}
    halves = {**shape, **threshold.again(config)}
    for name, kernel, further, dealt in (
        ("recount", batch_topk._recount_kernel, lists, {}),
        ("repair", threshold._repair_kernel, {**lists, **OUT}, {"DEALT": 1}),
    ):
        yield Case(
            name=f"batch {name} {label}",
            kernel=kernel,
            arguments={**source_types(dtype), **further, **SIZES},
            constants={**halves, "ROOM": kept, **dealt},
            warps=config.warps,
            stages=config.stages,
            most_registers=MOST_REGISTERS,
            wide=True,
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
        arguments={**keys, **OUT, "slots_ptr": "*i16"},
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
