# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
# ruff: noqa: ANN001, ANN202 (so their arguments have no types)
"""How many instructions the encoder runs beside a plain GEMM in the same tile, by machine code.

``python -m kernels_figures.work`` compiles for sm90, in a process that does not interpret, and
counts each instruction as often as the loops around it turn, for every warp of every program.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import triton
import triton.language as tl

ROWS, WIDTH, FEATURES, K = 4096, 768, 24_576, 32
_Trips = Callable[[bool, bool], int]
"""How often a loop turns, given whether it multiplies matrices, and whether it is an innermost."""


@triton.jit
def _gemm_kernel(
    x_ptr,  # [rows, width], rows x_stride apart
    weight_ptr,  # [features, width]
    bias_ptr,  # [features]
    out_ptr,  # out [rows, features]
    rows,
    features,
    width,
    x_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    feature = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inner = tl.arange(0, DEPTH)
    x_at = x_ptr + row[:, None] * x_stride + inner[None, :]
    weight_at = weight_ptr + feature[:, None] * width + inner[None, :]
    total = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for start in range(0, width, DEPTH):
        left = tl.load(x_at + start, mask=(row < rows)[:, None], other=0.0)
        right = tl.load(weight_at + start, mask=(feature < features)[:, None], other=0.0)
        total = tl.dot(left, tl.trans(right), total)
    total += tl.load(bias_ptr + feature, mask=feature < features, other=0.0).to(tl.float32)[None, :]
    inside = (row < rows)[:, None] & (feature < features)[None, :]
    out = out_ptr + row[:, None] * features + feature[None, :]
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=inside)


def executed(instructions: int, loops: list[tuple[int, int, bool]], trips: _Trips) -> int:
    """Count the instructions that one warp runs.

    Args:
        instructions: of the listing.
        loops: first and last instruction of each, and whether it multiplies matrices.
        trips: how often each turns.

    Returns:
        Each instruction times the turns of all loops around it.
    """
    times = [1] * instructions
    for first, last, has_dots in loops:
        inside = [one for one in loops if first <= one[0] and one[1] <= last]
        turns = trips(has_dots, len(inside) == 1)
        for place in range(first, last + 1):
            times[place] *= turns
    return sum(times)


def count() -> dict[str, int]:
    """Instructions of every launch of ``encode_topk`` where nothing hides, and of the GEMM."""
    import torch

    from isogloss.kernels.gpu.configs import fitted, table_config
    from isogloss.kernels.testing.matrix.case import Case
    from isogloss.kernels.testing.matrix.compile_all import compiled
    from isogloss.kernels.testing.matrix.encode import SIZES, encode_cases, source_types

    tile = fitted(table_config("sm90", torch.bfloat16), K, FEATURES)
    steps, programs = WIDTH // tile.depth, FEATURES // (tile.columns * tile.tiles)
    blocks = ROWS // tile.rows
    sizes = {name: kind for name, kind in SIZES.items() if name != "programs"}
    gemm = Case(
        name="gemm",
        kernel=_gemm_kernel,
        arguments={**source_types("bf16"), "out_ptr": "*bf16", **sizes},
        constants={"ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth},
        warps=tile.warps,
        stages=tile.stages,
    )

    def of_tiles(has_dots: bool, innermost: bool) -> int:
        return tile.tiles if not innermost else steps if has_dots else tile.kept

    launches: dict[str, tuple[int, _Trips]] = {
        "gemm": (blocks * FEATURES // tile.columns, lambda _, __: steps),
        "candidates": (blocks * programs, of_tiles),
        "select": (ROWS, lambda _, __: 1),  # all programs' candidates are merged at once
        "list": (programs, lambda _, __: ROWS // 1024),
        "repair": (blocks * programs, lambda _, __: 0),  # ends at once
        "merge": (ROWS, lambda _, __: 0),
    }
    found: dict[str, int] = {}
    for case in (gemm, *encode_cases("bf16", tile, K, FEATURES)):
        name = case.name.split()[min(1, len(case.name.split()) - 1)]
        made = compiled(case, "sm90")
        grid, trips = launches[name]
        found[name] = executed(made.instructions, list(made.loops), trips) * case.warps * grid
    return found


def work_figures() -> Iterator[dict[str, object]]:
    """Instructions of all launches of the encoder / those of the GEMM; reported as it is."""
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "kernels_figures.work"],
        capture_output=True,
        text=True,
        timeout=900,
        env={**clean, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    found: dict[str, int] = json.loads(done.stdout) if done.returncode == 0 else {}
    ours = sum(value for name, value in found.items() if name != "gemm")
    yield {
        "figure": "work_over_gemm",
        "value": ours / found["gemm"] if found else None,
        "bar": None,
        "sign": "",
        "holds": None,
        "unit": "instructions of warps, sm90",
        "peers": found or {"reason": done.stderr[-400:]},
        "runs": 1,
        "how": f"all launches of encode_topk where nothing hides / Triton's GEMM with bias at the "
        f"same tile, triton {triton.__version__}, {ROWS} x {WIDTH} -> {FEATURES}, k={K}, bf16",
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(count()))
