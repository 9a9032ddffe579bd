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
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # said aloud: its default changes in 3.10

import torch

from isogloss.kernels.gpu import decode, encode, gradients
from isogloss.kernels.gpu.configs import (
    MOST_REGISTERS,
    ROW_REGISTERS,
    EncodeConfig,
    fitted,
    repair_tile,
    table_config,
)
from isogloss.kernels.testing.cases import Case
from isogloss.kernels.testing.compilation import (
    SHARED_BYTES,
    TARGETS,
    Compiled,
    compile_kernel,
)
from isogloss.kernels.testing.matrix_coactivation import aux_topk_cases, coactivation_cases
from isogloss.kernels.testing.matrix_threshold import threshold_cases

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


def _encode_cases(
    dtype: str, config: EncodeConfig, k: int, features: int, *, even: bool = True
) -> Iterator[Case]:
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


def _row_cases(dtype: str, width: int, *, ragged: int, extras: int) -> Iterator[Case]:
    """decode, decode_loss and the values' gradients; ``extras``: with a bias."""
    padded, warps = 1 << (width - 1).bit_length(), decode.row_warps(width)
    source, label = f"*{dtype}", f"{dtype} width={width}{' ragged' if ragged else ''}"
    common = {"indices_ptr": "*i32", "offsets_ptr": "*i64", "weight_ptr": source}
    sizes = {"width": "i32", "k": "i32"}
    for loss in (0, 1):
        yield Case(
            name=f"decode{'_loss' if loss else ''} {label}{'' if extras else ' no bias'}",
            kernel=decode._decode_kernel,
            arguments={
                **common,
                **sizes,
                **dict.fromkeys(("values_ptr", "squares_ptr"), "*fp32"),
                **dict.fromkeys(("bias_ptr", "target_ptr"), source),
                "out_ptr": "*fp32" if loss else source,
            },
            constants={"RAGGED": ragged, "BIAS": extras, "LOSS": loss, "WIDTH": padded},
            warps=warps,
            wide=True,
        )
    yield Case(
        name=f"value slopes {label}",
        kernel=decode._slopes_kernel,
        arguments={**common, **sizes, "grad_ptr": source, "out_ptr": "*fp32"},
        constants={"RAGGED": ragged, "WIDTH": padded},
        warps=warps,
        wide=True,
    )


def _feature_cases(
    dtype: str, width: int, *, ragged: int, listed: int, both: int, whole: str = "i32"
) -> Iterator[Case]:
    """Gradients by feature; ``whole``: the type of places in the list of entries."""
    padded, warps = 1 << (width - 1).bit_length(), decode.row_warps(width)
    source = f"*{dtype}"
    lists = ("rows_ptr", "owners_ptr", "parts_ptr", "listed_ptr")
    results = ("to_values_ptr", "to_decoder_ptr", "to_encoder_ptr", "to_bias_ptr")
    partial = ("partial_ptr", "partial_bias_ptr")
    said = (" ragged" * ragged, " listed" * listed, " sums only" * (1 - both), f" {whole}")
    label = f"{dtype} width={width}{''.join(said)}"
    constants = {"LISTED": listed, "BOTH": both, "WIDTH": padded}
    yield Case(
        name=f"gradients {label}",
        kernel=gradients._features_kernel,
        arguments={
            **dict.fromkeys(lists, "*i32"),
            **dict.fromkeys(("order_ptr", "starts_ptr"), f"*{whole}"),
            "values_ptr": "*fp32",
            **dict.fromkeys(("grad_ptr", "x_ptr", "decoder_ptr"), source),
            **dict.fromkeys((*results, *partial), "*fp32"),
            **dict.fromkeys(("count", "features", "width", "k"), "i32"),
        },
        constants={**constants, "RAGGED": ragged, "SEGMENT": gradients.SEGMENT},
        warps=warps,
        wide=True,
    )
    yield Case(
        name=f"gradients, adding parts, width={width}{said[1]}{said[2]}",
        kernel=gradients._add_parts_kernel,
        arguments={
            **dict.fromkeys(("parts_ptr", "listed_ptr"), "*i32"),
            **dict.fromkeys((*partial, *results[1:]), "*fp32"),
            "width": "i32",
        },
        constants=constants,
        warps=warps,
        most_registers=ROW_REGISTERS,
        wide=True,
    )


def _quick_cases(target: str) -> Iterator[Case]:
    config = fitted(table_config(target, torch.bfloat16), *_SHAPES[0])
    yield from _encode_cases("bf16", config, *_SHAPES[0])
    yield from _row_cases("fp32", 768, ragged=0, extras=1)
    yield from _feature_cases("fp32", 768, ragged=0, listed=0, both=1)


def _all_cases(target: str) -> Iterator[Case]:
    for dtype, kind in (
        ("bf16", torch.bfloat16),
        ("fp32", torch.float32),
        ("fp16", torch.float16),
    ):
        for k, features in _SHAPES[: 1 if dtype == "fp16" else None]:
            tile = fitted(table_config(target, kind), k, features)
            yield from _encode_cases(dtype, tile, k, features)
        k, features = _SHAPES[0]
        tile = fitted(table_config(target, kind, even=False), k, features)
        yield from _encode_cases(dtype, tile, k, features, even=False)
        yield from _row_cases(dtype, 768, ragged=0, extras=1)
        yield from _feature_cases(dtype, 768, ragged=0, listed=0, both=1)
    for dtype in ("bf16", "fp32"):
        yield from _row_cases(dtype, 4096, ragged=1, extras=0)
        yield from _row_cases(dtype, 8_192, ragged=0, extras=1)
        yield from _feature_cases(dtype, 4096, ragged=1, listed=1, both=1)
        yield from _feature_cases(dtype, 4096, ragged=0, listed=0, both=0)
        yield from _feature_cases(dtype, 4096, ragged=0, listed=0, both=1, whole="i64")
        yield from _feature_cases(dtype, 8_192, ragged=0, listed=0, both=1)


def cases(target: str, *, quick: bool = False) -> Iterator[Case]:
    """The kernels as this room launches them on ``target``, each once."""
    seen = set[str]()
    own = _quick_cases(target) if quick else _all_cases(target)
    rest = (threshold_cases(target), aux_topk_cases(target), coactivation_cases())
    for case in own if quick else chain(own, *rest):
        if case.name not in seen:
            seen.add(case.name)
            yield case


def faults(case: Case, made: Compiled) -> list[str]:
    """What the compiled kernel must not be."""
    limit = SHARED_BYTES[made.target]
    found = [
        (made.spills > 0, f"{made.spills} spill instructions"),
        (made.local_bytes > 0, f"{made.local_bytes} bytes of local memory"),
        (made.float_atomics > 0, f"{made.float_atomics} float atomics"),
        (made.shared_bytes > limit, f"{made.shared_bytes} bytes of shared memory, over {limit}"),
        (case.wide and made.wide_loads == 0, "no 128-bit load"),
        (
            case.dots and made.narrow_dot_loads > 0,
            f"{made.narrow_dot_loads} narrow loads where matrices are multiplied",
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
    """A repair must multiply as the candidates it replaces: equal bits need equal instructions."""
    place = case.name.replace(" repair ", " candidates ")
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
