"""The cases of encode_topk_aux."""

from collections.abc import Iterator

import torch

from isogloss.kernels.gpu import aux_topk, tiles
from isogloss.kernels.gpu.configs import MOST_REGISTERS, EncodeConfig, table_config
from isogloss.kernels.testing.matrix.case import Case
from isogloss.kernels.testing.matrix.encode import CANDIDATES, SIZES, repair_cases, source_types

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
            table = table_config(target, kind)
            lists = aux_topk.two_lists(table, k, aux_k, masked, features)
            yield from _aux_cases(dtype, *lists, aux_k, features)


def _aux_cases(
    dtype: str, tile: EncodeConfig, aux_kept: int, aux_k: int, features: int
) -> Iterator[Case]:
    size = f"{tile.rows}x{tile.columns}x{tile.tiles} keep {tile.kept} and {aux_kept}"
    label = f"{dtype} aux_k={aux_k} of {features}, {size}"
    programs = -(-features // (tile.columns * tile.tiles))
    yield Case(
        name=f"aux candidates {label}",
        kernel=aux_topk._two_candidates_kernel,
        arguments={
            **source_types(dtype),
            "mask_ptr": "*i32",
            **CANDIDATES,
            **{f"aux_{name}": kind for name, kind in CANDIDATES.items()},
            **SIZES,
        },
        constants={
            **tiles.tile_constants(tile),
            "AUX_KEPT": aux_kept,
        },
        warps=tile.warps,
        most_registers=None if dtype == "fp32" else MOST_REGISTERS,
        dots=True,
        stages=tile.stages,
        wide=True,
        matrix=dtype != "fp32",
    )
    lists = (aux_k, aux_kept, programs)
    yield from repair_cases("aux", label, dtype, tile, lists, masked=1)
    if aux_k == _AUX_SHAPES[0][1]:
        first = (_AUX_SHAPES[0][0], tile.kept, programs)
        own = f"of the first set {label}"
        yield from repair_cases("aux", own, dtype, tile, first)
    padded = tiles.list_sizes(aux_k, programs, aux_kept)[0]
    yield Case(
        name=f"aux fill aux_k={aux_k}",
        kernel=aux_topk._fill_masked_kernel,
        arguments={
            **dict.fromkeys(("ranks_ptr", "candidates_ptr", "indices_ptr"), "*i32"),
            "values_ptr": "*fp32",
            "k": "i32",
        },
        constants={"PADDED": padded},
        warps=tiles.list_warps(padded),
    )
