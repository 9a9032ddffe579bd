"""The cases of encode_topk_aux."""

from collections.abc import Iterator

import torch

from isogloss.kernels.gpu import aux_topk, encode
from isogloss.kernels.gpu.configs import (
    MOST_REGISTERS,
    EncodeConfig,
    repair_tile,
    table_config,
)
from isogloss.kernels.testing.matrix.case import Case

_AUX_SHAPES = (
    (32, 512, 2_457, 24_576),
    (32, 256, 20_000, 24_576),
    (64, 512, 600, 131_072),
    (32, 384, 1_500, 3_072),
    (32, 384, 385, 1_024),
)
"""k, aux_k, features under the mask, and features: every number of candidates kept."""


def aux_topk_cases(target: str) -> Iterator[Case]:
    """The kernels of the second code set as this room launches them on ``target``."""
    for k, aux_k, masked, features in _AUX_SHAPES:
        for dtype, kind in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
            for even in (True, False) if aux_k == _AUX_SHAPES[0][1] else (True,):
                table = table_config(target, kind, even=even)
                lists = aux_topk.two_lists(table, k, aux_k, masked, features)
                yield from _aux_cases(dtype, *lists, aux_k, features, even=even)


def _aux_cases(
    dtype: str, tile: EncodeConfig, aux_kept: int, aux_k: int, features: int, *, even: bool
) -> Iterator[Case]:
    sizes = dict.fromkeys(("rows", "features", "width", "programs", "x_stride"), "i32")
    source = {"x_ptr": f"*{dtype}", "weight_ptr": f"*{dtype}", "bias_ptr": f"*{dtype}"}
    source["mask_ptr"] = "*i32"
    found = {"keys_ptr": "*i32", "places_ptr": "*i16"}
    shape = {
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "TILES": tile.tiles,
        "KEPT": tile.kept,
        "DEPTH": tile.depth,
        "EVEN": int(even),
    }
    size = f"{tile.rows}x{tile.columns}x{tile.tiles} keep {tile.kept} and {aux_kept}"
    label = f"{dtype} aux_k={aux_k} of {features}, {size}{'' if even else ' uneven'}"
    programs = -(-features // (tile.columns * tile.tiles))
    padded, groups = encode.list_sizes(aux_k, programs, aux_kept)
    yield Case(
        name=f"aux candidates {label}",
        kernel=aux_topk._two_candidates_kernel,
        arguments={
            **source,
            **found,
            **{f"aux_{name}": kind for name, kind in found.items()},
            **sizes,
        },
        constants={**shape, "AUX_KEPT": aux_kept},
        warps=tile.warps,
        most_registers=None if dtype == "fp32" else MOST_REGISTERS,
        dots=even,
        stages=tile.stages,
        wide=even,
        even=even,
        matrix=dtype != "fp32",
    )
    out = {"values_ptr": "*fp32", "indices_ptr": "*i32", "repaired_ptr": "*i32", "k": "i32"}
    lists = {"PADDED": padded, "GROUPS": groups, "KEPT": aux_kept}
    yield Case(
        name=f"aux repair {label}",
        kernel=aux_topk._repair_masked_kernel,
        arguments={**source, **found, **out, **sizes},
        constants={**shape, **repair_tile(tile), **lists},
        warps=tile.warps,
        most_registers=MOST_REGISTERS,
        stages=tile.stages,
        wide=even,
        even=even,
        matrix=dtype != "fp32",
    )
    if aux_k == _AUX_SHAPES[0][1] and even:
        padded_first, groups_first = encode.list_sizes(_AUX_SHAPES[0][0], programs, tile.kept)
        first = {"PADDED": padded_first, "GROUPS": groups_first}
        yield Case(
            name=f"aux repair of the first set {label}",
            kernel=encode._repair_kernel,
            arguments={**{n: t for n, t in source.items() if n != "mask_ptr"}, **found, **out}
            | sizes,
            constants={**shape, **repair_tile(tile), **first},
            warps=tile.warps,
            most_registers=MOST_REGISTERS,
            stages=tile.stages,
            wide=even,
            even=even,
            matrix=dtype != "fp32",
        )
    yield Case(
        name=f"aux fill aux_k={aux_k}",
        kernel=aux_topk._fill_masked_kernel,
        arguments={
            **dict.fromkeys(("ranks_ptr", "candidates_ptr", "indices_ptr"), "*i32"),
            "values_ptr": "*fp32",
            "k": "i32",
        },
        constants={"PADDED": padded},
        warps=encode.list_warps(padded),
    )
