# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportAttributeAccessIssue=false, reportMissingTypeArgument=false
# (triton's interpreter and compiler are untyped, and replaced in place)
"""The compile matrix: every Triton kernel of this room, for every target.

``python -m isogloss.kernels.testing.matrix [--quick] [targets]`` writes one JSON line for each
compilation: what was compiled, what came out, and what is wrong with it. Run it without
``TRITON_INTERPRET``.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # said aloud: its default changes in 3.10

from isogloss.kernels.gpu import decode, encode, gradients
from isogloss.kernels.gpu.configs import (
    ENCODE_FLOAT,
    MOST_REGISTERS,
    EncodeConfig,
    fitted,
    half_config,
)
from isogloss.kernels.testing.compilation import (
    SHARED_BYTES,
    TARGETS,
    Compiled,
    JitFunction,
    compile_kernel,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A kernel with the types and constants of one of its uses."""

    name: str
    """What it is, in the report."""
    kernel: JitFunction
    """Under ``@triton.jit``."""
    arguments: dict[str, str]
    """Types of the run-time arguments."""
    constants: dict[str, int]
    """The ``tl.constexpr`` arguments."""
    warps: int
    """Warps of a program."""
    stages: int = 3
    """Stages of software pipelining."""
    wide: bool = False
    """Whether its hot loop must load 128 bits a thread."""
    most_registers: int | None = None
    """The launch option ``maxnreg``."""
    hot: bool = True
    """Whether it runs on every row: then it may not spill."""
    matrix: bool = False
    """Whether it must use matrix instructions."""


def _encode_cases(dtype: str, config: EncodeConfig, k: int) -> Iterator[Case]:
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
        "EVEN": 1,
    }
    padded, groups = encode.list_sizes(k, 32, config.kept)
    label = f"{dtype} k={k} {config.rows}x{config.columns}x{config.tiles} keep {config.kept}"
    limit = MOST_REGISTERS
    yield Case(
        name=f"encode candidates {label}",
        kernel=encode._candidates_kernel,
        arguments={**source, **found, **rest},
        constants=shape,
        wide=True,
        matrix=dtype != "fp32",
        warps=config.warps,
        stages=config.stages,
    )
    lists = {"PADDED": padded, "GROUPS": groups}
    yield Case(
        name=f"encode select k={k} keep {config.kept}",
        kernel=encode._select_kernel,
        arguments={**found, **out, "programs": "i32"},
        constants={**lists, "KEPT": config.kept},
        warps=encode.list_warps(padded),
        most_registers=limit,
    )
    yield Case(
        name=f"encode repair {label}",
        kernel=encode._repair_kernel,
        arguments={**source, **found, **out, **rest},
        constants={**lists, **shape, "ROWS": config.repair_rows},
        hot=False,
        wide=True,
        matrix=dtype != "fp32",
        warps=config.warps,
        stages=config.stages,
        most_registers=limit,
    )


def _row_cases(dtype: str, width: int) -> Iterator[Case]:
    padded, warps = 1 << (width - 1).bit_length(), decode.row_warps(width)
    source = f"*{dtype}"
    for loss in (0, 1):
        yield Case(
            name=f"decode{'_loss' if loss else ''} {dtype} width={width}",
            kernel=decode._decode_kernel,
            arguments={
                "values_ptr": "*fp32",
                "indices_ptr": "*i32",
                "offsets_ptr": "*i64",
                "weight_ptr": source,
                "bias_ptr": source,
                "target_ptr": source,
                "out_ptr": "*fp32" if loss else source,
                "squares_ptr": "*fp32",
                "width": "i32",
                "k": "i32",
            },
            constants={"RAGGED": 0, "BIAS": 1, "LOSS": loss, "WIDTH": padded},
            warps=warps,
            wide=True,
        )
    yield Case(
        name=f"value slopes {dtype} width={width}",
        kernel=decode._slopes_kernel,
        arguments={
            "indices_ptr": "*i32",
            "offsets_ptr": "*i64",
            "grad_ptr": source,
            "weight_ptr": source,
            "out_ptr": "*fp32",
            "width": "i32",
            "k": "i32",
        },
        constants={"RAGGED": 0, "WIDTH": padded},
        warps=warps,
        wide=True,
    )


def _feature_cases(dtype: str, width: int) -> Iterator[Case]:
    padded, warps = 1 << (width - 1).bit_length(), decode.row_warps(width)
    source = f"*{dtype}"
    lists = ("order_ptr", "rows_ptr", "starts_ptr", "owners_ptr", "parts_ptr", "listed_ptr")
    results = ("to_values_ptr", "to_decoder_ptr", "to_encoder_ptr", "to_bias_ptr")
    partial = ("partial_ptr", "partial_bias_ptr")
    yield Case(
        name=f"gradients {dtype} width={width}",
        kernel=gradients._features_kernel,
        arguments={
            **dict.fromkeys(lists, "*i32"),
            "values_ptr": "*fp32",
            **dict.fromkeys(("grad_ptr", "x_ptr", "decoder_ptr"), source),
            **dict.fromkeys((*results, *partial), "*fp32"),
            **dict.fromkeys(("count", "features", "width", "k"), "i32"),
        },
        constants={"RAGGED": 0, "LISTED": 0, "SEGMENT": 64, "BOTH": 1, "WIDTH": padded},
        warps=warps,
        wide=True,
    )
    yield Case(
        name=f"gradients, adding parts width={width}",
        kernel=gradients._add_parts_kernel,
        arguments={
            **dict.fromkeys(("parts_ptr", "listed_ptr"), "*i32"),
            **dict.fromkeys((*partial, *results[1:]), "*fp32"),
            "width": "i32",
        },
        constants={"LISTED": 0, "BOTH": 1, "WIDTH": padded},
        warps=warps,
        wide=True,
    )


def cases(target: str, *, quick: bool = False) -> Iterator[Case]:
    """The kernels as this room launches them on ``target``."""
    half = half_config(int(target[2:]) // 10 if target.startswith("sm") else 0)
    for k in (32,) if quick else (32, 512):
        for dtype, config in (("bf16", half), ("fp32", ENCODE_FLOAT)):
            if quick and dtype == "fp32":
                continue
            yield from _encode_cases(dtype, fitted(config, k, 24_576), k)
    for dtype in ("fp32",) if quick else ("fp32", "bf16"):
        for width in (768,) if quick else (768, 4096):
            yield from _row_cases(dtype, width)
            yield from _feature_cases(dtype, width)


def faults(case: Case, made: Compiled) -> list[str]:
    """What the compiled kernel must not be."""
    limit = SHARED_BYTES[made.target]
    found = [
        (case.hot and made.spills > 0, f"{made.spills} spill instructions"),
        (case.hot and made.local_bytes > 0, f"{made.local_bytes} bytes of local memory"),
        (made.float_atomics > 0, f"{made.float_atomics} float atomics"),
        (made.shared_bytes > limit, f"{made.shared_bytes} bytes of shared memory, over {limit}"),
        (case.wide and made.wide_loads == 0, "no 128-bit load"),
        (case.matrix and made.matrix_instructions == 0, "no matrix instruction"),
    ]
    return [fault for wrong, fault in found if wrong]


def main(arguments: list[str]) -> int:
    """Compile and report; the exit code is 1 when a kernel has a fault."""
    quick = "--quick" in arguments
    wrong = 0
    for target in [a for a in arguments if a != "--quick"] or list(TARGETS):
        for case in cases(target, quick=quick):
            pointers = tuple(name for name in case.arguments if name.endswith("_ptr"))
            strides = tuple(name for name in ("width", "x_stride") if name in case.arguments)
            made = compile_kernel(
                case.kernel,
                case.arguments,
                case.constants,
                target,
                aligned=pointers + strides,
                warps=case.warps,
                stages=case.stages,
                most_registers=case.most_registers,
            )
            found = faults(case, made)
            wrong += bool(found)
            line = {"case": case.name, **asdict(made), "faults": found}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
