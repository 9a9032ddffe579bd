# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportAttributeAccessIssue=false, reportMissingTypeArgument=false
# (triton's interpreter and compiler are untyped, and replaced in place)
"""The compile matrix: every Triton kernel of this room, for every target.

``python -m isogloss.kernels.testing.matrix [--quick] [--jobs N] [targets]`` writes one JSON line
for each compilation: what was compiled, what came out, and what is wrong with it. Run it without
``TRITON_INTERPRET``.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context

os.environ.setdefault(
    "TRITON_DEFAULT_FP_FUSION", "1"
)  # set here because its default changes in 3.10

import torch

from isogloss.kernels.gpu.configs import fitted, table_config
from isogloss.kernels.testing.compilation import (
    SHARED_BYTES,
    TARGETS,
    Compiled,
    compile_kernel,
)
from isogloss.kernels.testing.matrix.aux_topk import aux_topk_cases
from isogloss.kernels.testing.matrix.batch_topk import batch_topk_cases
from isogloss.kernels.testing.matrix.case import Case
from isogloss.kernels.testing.matrix.coactivation import coactivation_cases
from isogloss.kernels.testing.matrix.decode import decode_cases
from isogloss.kernels.testing.matrix.encode import encode_cases
from isogloss.kernels.testing.matrix.gradients import feature_cases, slope_case
from isogloss.kernels.testing.matrix.prefixes import prefix_cases
from isogloss.kernels.testing.matrix.threshold import threshold_cases

_SHAPES = (
    (32, 24_576),
    (64, 131_072),
    (128, 4_096),
    (512, 24_576),
    (512, 512),
    (512, 4_096),
    (2_048, 65_536),
)
"""k and features of encoders: between them every ``kept`` and both kinds of ``tiles``."""


def _row_cases(dtype: str, width: int, *, ragged: int, extras: int) -> Iterator[Case]:
    """The kernels that take one row; ``extras``: with a bias."""
    yield from decode_cases(dtype, width, ragged=ragged, extras=extras)
    yield slope_case(dtype, width, ragged=ragged)


def _quick_cases(target: str) -> Iterator[Case]:
    config = fitted(table_config(target, torch.bfloat16), *_SHAPES[0])
    yield from encode_cases("bf16", config, *_SHAPES[0])
    yield from _row_cases("fp32", 768, ragged=0, extras=1)
    yield from feature_cases("fp32", 768, ragged=0, listed=0, both=1)


def _all_cases(target: str) -> Iterator[Case]:
    for dtype, kind in (
        ("bf16", torch.bfloat16),
        ("fp32", torch.float32),
        ("fp16", torch.float16),
    ):
        for k, features in _SHAPES[: 1 if dtype == "fp16" else None]:
            tile = fitted(table_config(target, kind), k, features)
            yield from encode_cases(dtype, tile, k, features)
        yield from _row_cases(dtype, 768, ragged=0, extras=1)
        yield from feature_cases(dtype, 768, ragged=0, listed=0, both=1)
    for dtype, width in (("bf16", 776), ("fp32", 772)):
        yield from _row_cases(dtype, width, ragged=0, extras=1)
        yield from feature_cases(dtype, width, ragged=0, listed=0, both=1)
    for dtype in ("bf16", "fp32"):
        yield from _row_cases(dtype, 4096, ragged=1, extras=0)
        yield from _row_cases(dtype, 8_192, ragged=0, extras=1)
        yield from feature_cases(dtype, 4096, ragged=1, listed=1, both=1)
        yield from feature_cases(dtype, 4096, ragged=0, listed=0, both=0)
        yield from feature_cases(dtype, 4096, ragged=1, listed=0, both=1, whole="i64")
        yield from feature_cases(dtype, 8_192, ragged=0, listed=0, both=1)


def cases(target: str, *, quick: bool = False) -> Iterator[Case]:
    """The kernels as this room launches them on ``target``, each once."""
    seen = set[str]()
    own = _quick_cases(target) if quick else _all_cases(target)
    rest = (
        threshold_cases(target),
        batch_topk_cases(target),
        prefix_cases(),
        aux_topk_cases(target),
        coactivation_cases(),
    )
    for case in own if quick else chain(own, *rest):
        if case.name not in seen:
            seen.add(case.name)
            yield case


def faults(case: Case, made: Compiled) -> list[str]:
    """List what is wrong with a compiled kernel; empty where nothing is."""
    limit = SHARED_BYTES[made.target]
    found = [
        (made.spills > 0, f"{made.spills} spill instructions"),
        (made.local_bytes > 0, f"{made.local_bytes} bytes of local memory"),
        (made.float_atomics > 0, f"{made.float_atomics} float atomics"),
        (made.divisions > 0, f"{made.divisions} divisions of 64-bit integers"),
        (made.shared_bytes > limit, f"{made.shared_bytes} bytes of shared memory, over {limit}"),
        (case.wide and made.wide_loads == 0, "no 128-bit load"),
        (
            case.dots and made.narrow_dot_loads > 0,
            f"{made.narrow_dot_loads} narrow loads where matrices are multiplied",
        ),
        (
            case.dots and made.late_loads > 512 // (32 * case.warps),
            f"{made.late_loads} loads of a tile's columns after its multiplication",
        ),
        (case.matrix and made.matrix_instructions == 0, "no matrix instruction"),
    ]
    return [fault for wrong, fault in found if wrong]


def compiled(case: Case, target: str) -> Compiled:
    """Compile a case as Triton would for tensors from torch: 16-byte aligned."""
    pointers = tuple(name for name in case.arguments if name.endswith("_ptr"))
    strides = tuple(name for name in ("width", "x_stride") if name in case.arguments)
    return compile_kernel(
        case.kernel,
        case.arguments,
        case.constants,
        target,
        aligned=pointers + (strides if case.even else ()),
        ones=case.ones,
        warps=case.warps,
        stages=case.stages,
        most_registers=case.most_registers,
    )


def _other_kinds(kinds: dict[str, tuple[str, ...]], case: Case, made: Compiled) -> list[str]:
    """Say if a repair multiplies by other instructions than its candidates: bits would differ."""
    place = case.name.replace(" repair ", " candidates ").replace(" of the first set ", " ")
    wanted = kinds.setdefault(place, made.matrix_kinds)
    if wanted == made.matrix_kinds:
        return []
    return [f"multiplies with {made.matrix_kinds}, the candidates with {wanted}"]


def _compiled_by_number(target: str, quick: bool, number: int) -> Compiled:
    return compiled(next(islice(cases(target, quick=quick), number, None)), target)


def main(arguments: list[str]) -> int:
    """Compile and report; the exit code is 1 when a kernel has a fault."""
    parser = argparse.ArgumentParser(prog="matrix", description="Compile every kernel.")
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="the main kernels only")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    chosen = parser.parse_args(arguments)
    wrong = 0
    with ProcessPoolExecutor(chosen.jobs, mp_context=get_context("spawn")) as pool:
        for target in chosen.targets or list(TARGETS):
            kinds: dict[str, tuple[str, ...]] = {}
            every = list(cases(target, quick=chosen.quick))
            work = partial(_compiled_by_number, target, chosen.quick)
            numbers = range(len(every))
            results = map(work, numbers) if chosen.jobs == 1 else pool.map(work, numbers)
            for case, made in zip(every, results, strict=True):
                found = faults(case, made) + _other_kinds(kinds, case, made)
                wrong += bool(found)
                line = {"case": case.name, **asdict(made), "faults": found}
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
    return int(wrong > 0)
