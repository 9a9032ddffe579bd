"""The cases of encode_topk, and of the selection and repair that encode_topk_aux shares."""

from collections.abc import Iterator

from isogloss.kernels.gpu import encode, repair, tiles
from isogloss.kernels.gpu.configs import MOST_REGISTERS, EncodeConfig
from isogloss.kernels.testing.matrix.case import Case

SIZES = dict.fromkeys(("rows", "features", "width", "programs", "x_stride"), "i32")
"""Sizes that the kernels which compute tiles take."""

CANDIDATES = {"keys_ptr": "*i32", "places_ptr": "*i16"}
"""Where candidates are kept."""


def source_types(dtype: str) -> dict[str, str]:
    """The types of what a kernel that computes tiles reads."""
    return dict.fromkeys(("x_ptr", "weight_ptr", "bias_ptr"), f"*{dtype}")


def encode_cases(dtype: str, config: EncodeConfig, k: int, features: int) -> Iterator[Case]:
    """The kernels of ``encode_topk`` for one tile: candidates, selection, repair."""
    programs = -(-features // (config.columns * config.tiles))
    size = f"{config.rows}x{config.columns}x{config.tiles}"
    label = f"{dtype} k={k} of {features}, {size} keep {config.kept}"
    yield Case(
        name=f"encode candidates {label}",
        kernel=encode._candidates_kernel,
        arguments={**source_types(dtype), **CANDIDATES, **SIZES},
        constants=tiles.tile_constants(config),
        warps=config.warps,
        stages=config.stages,
        wide=True,
        matrix=dtype != "fp32",
        most_registers=MOST_REGISTERS if dtype == "fp32" else None,
        ones=("programs",) if programs == 1 else (),
        dots=True,
    )
    yield from repair_cases("encode", label, dtype, config, (k, config.kept, programs))


def repair_cases(
    name: str,
    label: str,
    dtype: str,
    config: EncodeConfig,
    lists: tuple[int, int, int],
    masked: int = 0,
) -> Iterator[Case]:
    """The selection and the repair of one list of candidates.

    Args:
        name: the operation.
        label: what its candidates are called.
        dtype: of rows and weights.
        config: the tile of the candidates.
        lists: entries of a row, candidates that a program keeps, and programs.
        masked: 1 where only features under a mask take part.

    Yields:
        The cases.
    """
    k, kept, programs = lists
    span = config.columns * config.tiles
    padded, groups = tiles.list_sizes(k, programs, kept)
    hides = int(kept < span and k >= kept)
    ones = ("programs",) if programs == 1 else ()
    rows = {"values_ptr": "*fp32", "indices_ptr": "*i32", "repaired_ptr": "*i32"}
    found = {**CANDIDATES, **rows, "ranks_ptr": "*i16", "k": "i32", "programs": "i32"}
    shape = {"PADDED": padded, "GROUPS": groups, "KEPT": kept}
    said = f"k={k} keep {kept} groups {groups}"
    yield Case(
        name=f"encode select {said}{'' if hides else ' all'}",
        kernel=encode._select_kernel,
        arguments=found,
        constants={**shape, "HIDES": hides},
        warps=tiles.list_warps(padded),
        most_registers=MOST_REGISTERS,
        ones=ones,
    )
    if not hides:
        return
    flags = {"listed_ptr": "*i32", "counts_ptr": "*i32", "ranks_ptr": "*i16"}
    yield Case(
        name="encode list",
        kernel=repair._list_kernel,
        arguments={"repaired_ptr": "*i32", **flags, "rows": "i32", "programs": "i32"},
        constants={"AT_ONCE": repair.AT_ONCE},
        warps=4,
    )
    yield Case(
        name=f"{name} repair {label}",
        kernel=repair._again_kernel,
        arguments={
            **source_types(dtype),
            "mask_ptr": "*i32" if masked else f"*{dtype}",
            **flags,
            "dense_ptr": "*i32",
            **SIZES,
            "most": "i32",
        },
        constants={
            **repair.again_constants(config),
            "MASKED": masked,
        },
        warps=config.warps,
        stages=config.stages,
        most_registers=MOST_REGISTERS,
        wide=True,
        matrix=dtype != "fp32",
        ones=(*ones, *(("most",) if k // kept == 1 else ())),
    )
    yield Case(
        name=f"encode merge {said} of {span}",
        kernel=repair._merge_kernel,
        arguments={**found, "dense_ptr": "*i32", "most": "i32"},
        constants={**shape, "SPAN": span, "WIDE": max(padded, 256)},
        warps=repair.merge_warps(padded),
        most_registers=MOST_REGISTERS,
        ones=ones,
    )
