"""The cases of encode_topk."""

from collections.abc import Iterator
from dataclasses import replace

from isogloss.kernels.gpu import encode
from isogloss.kernels.gpu.configs import MOST_REGISTERS, EncodeConfig, repair_tile
from isogloss.kernels.testing.matrix.case import Case


def encode_cases(
    dtype: str, config: EncodeConfig, k: int, features: int, *, even: bool = True
) -> Iterator[Case]:
    """The kernels of ``encode_topk`` for one tile: candidates, selection, repair."""
    rest = dict.fromkeys(("rows", "features", "width", "programs", "x_stride"), "i32")
    source = {"x_ptr": f"*{dtype}", "weight_ptr": f"*{dtype}", "bias_ptr": f"*{dtype}"}
    found = {"keys_ptr": "*i32", "places_ptr": "*i16"}
    out = {"values_ptr": "*fp32", "indices_ptr": "*i32", "repaired_ptr": "*i32", "k": "i32"}
    shape = {
        "ROWS": config.rows,
        "COLUMNS": config.columns,
        "TILES": config.tiles,
        "KEPT": config.kept,
        "DEPTH": config.depth,
        "EVEN": int(even),
    }
    programs = -(-features // (config.columns * config.tiles))
    padded, groups = encode.list_sizes(k, programs, config.kept)
    size = f"{config.rows}x{config.columns}x{config.tiles}"
    label = f"{dtype} k={k} of {features}, {size} keep {config.kept}{'' if even else ' uneven'}"
    ones = ("programs",) if programs == 1 else ()
    candidates = Case(
        name=f"encode candidates {label}",
        kernel=encode._candidates_kernel,
        arguments={**source, **found, **rest},
        constants=shape,
        warps=config.warps,
        stages=config.stages,
        wide=even,
        matrix=dtype != "fp32",
        even=even,
        ones=ones,
        dots=even,
    )
    yield candidates
    lists = {"PADDED": padded, "GROUPS": groups}
    yield Case(
        name=f"encode select k={k} keep {config.kept} groups {groups}",
        kernel=encode._select_kernel,
        arguments={**found, **out, "programs": "i32"},
        constants={**lists, "KEPT": config.kept},
        warps=encode.list_warps(padded),
        most_registers=MOST_REGISTERS,
        ones=ones,
    )
    yield replace(
        candidates,
        name=f"encode repair {label}",
        kernel=encode._repair_kernel,
        arguments={**source, **found, **out, **rest},
        constants={**lists, **shape, **repair_tile(config)},
        most_registers=MOST_REGISTERS,
        dots=False,
    )
