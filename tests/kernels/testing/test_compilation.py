"""The compile matrix: kernels compiled, by a process of its own, for GPUs that are not here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")


def matrix(*arguments: str, timeout_s: float) -> tuple[int, list[dict[str, object]]]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "isogloss.kernels.testing.matrix", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment,
    )
    assert not done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(900)
def test_the_main_kernels_compile_for_hopper_and_mi300_without_fault() -> None:
    code, lines = matrix("--quick", "sm90", "gfx942", timeout_s=880)
    assert [line["target"] for line in lines] == ["sm90"] * 10 + ["gfx942"] * 10
    assert [line for line in lines if line["faults"]] == []
    assert code == 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_kernel_compiles_for_every_target_without_fault() -> None:
    code, lines = matrix("--jobs", "2", timeout_s=7100)
    assert len({line["target"] for line in lines}) == 7
    assert [line for line in lines if line["faults"]] == []
    assert code == 0


_REFUSED = """
from isogloss.errors import InvalidInput
from isogloss.kernels.gpu.gradients import _slopes_kernel
from isogloss.kernels.testing.compilation import compile_kernel
for target, message in (("sm90", "without TRITON_INTERPRET"), ("sm1", "target is 'sm1'")):
    try:
        compile_kernel(_slopes_kernel, {}, {}, target)
    except InvalidInput as error:
        assert message in str(error), error
    else:
        raise AssertionError(target)
"""


def test_an_interpreting_process_refuses_to_compile() -> None:
    if triton.knobs.runtime.interpret:
        exec(_REFUSED, {})
        return
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", _REFUSED], check=True, timeout=100, env=environment)


_LOOP = """
import ast, sys, traceback
for line in sys.stdin:
    try:
        exec(ast.literal_eval(line), {})
    except BaseException:
        print(repr(traceback.format_exc()), flush=True)
    else:
        print(repr("done"), flush=True)
"""


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[str], None]]:
    """Run code in one process that does not interpret: it imports torch and triton only once."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", _LOOP]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        source, answers = child.stdin, child.stdout

        def run_there(code: str) -> None:
            source.write(repr(code) + "\n")
            source.flush()
            assert answers.readline() == "'done'\n"

        yield run_there
        source.close()


def test_what_a_compilation_must_not_be_is_named(run: Callable[[str], None]) -> None:
    run("""
from dataclasses import replace
from isogloss.kernels.testing.compilation import Compiled
from isogloss.kernels.testing.matrix.compile_all import _other_kinds, cases, faults
case = next(cases("sm90", quick=True))
good = Compiled(
    target="sm90", registers=99, spills=0, local_bytes=0, shared_bytes=99, matrix_instructions=4,
    matrix_kinds=("HGMMA.64xNx16",), float_atomics=0, wide_loads=4, loads=9, narrow_dot_loads=0,
    divisions=0, late_loads=0, instructions=50, loops=(),
)
def said(**changed):
    return faults(case, replace(good, **changed))
found = [
    said(), said(spills=3), said(local_bytes=8), said(float_atomics=1), said(shared_bytes=1 << 18),
    said(divisions=1), said(wide_loads=0), said(narrow_dot_loads=2), said(late_loads=3),
    said(matrix_instructions=0),
]
assert found == [
    [], ["3 spill instructions"], ["8 bytes of local memory"], ["1 float atomics"],
    ["262144 bytes of shared memory, over 232448"], ["1 divisions of 64-bit integers"],
    ["no 128-bit load"],
    ["2 narrow loads where matrices are multiplied"],
    ["3 loads of a tile's columns after its multiplication"], ["no matrix instruction"],
], found
kinds = {}
repair = replace(case, name=case.name.replace("candidates", "repair"))
assert _other_kinds(kinds, case, good) == []
assert _other_kinds(kinds, repair, good) == []
(other,) = _other_kinds(kinds, repair, replace(good, matrix_kinds=("HMMA",)))
assert "multiplies with ('HMMA',)" in other, other
""")


def test_a_compilation_is_kept_and_read_again(tmp_path: Path, run: Callable[[str], None]) -> None:
    run(f"""
import os
os.environ["TRITON_CACHE_DIR"] = {str(tmp_path)!r}
from pathlib import Path
from isogloss.kernels.testing import compilation
from isogloss.kernels.testing.matrix.compile_all import cases, compiled
case = next(c for c in cases("sm90", quick=True) if "slopes" in c.name)
first = compiled(case, "sm90")
(kept,) = Path(compilation.triton.knobs.cache.dir, "isogloss-matrix").glob("*.json")
def never(*_, **__):
    raise AssertionError("compiled again")
whole, compilation.triton.compile = compilation.triton.compile, never
try:
    assert compiled(case, "sm90") == first
    assert first.wide_loads > 0 and first.spills == 0
    try:
        compiled(case, "sm80")
    except AssertionError as error:
        assert str(error) == "compiled again"
    else:
        raise AssertionError("another target was read from the cache")
finally:  # the process runs other tests too
    compilation.triton.compile = whole
""")


def test_loops_that_load_narrowly_where_they_multiply_are_counted(
    run: Callable[[str], None],
) -> None:
    run(r"""
from isogloss.kernels.testing.compilation import _narrow
lines = [
    ("", "LDG.E", ""), (".L_0", "", ""), ("", "LDG.E", ""), (".L_1", "", ""), ("", "LDG.E.128", ""),
    ("", "LDG.E.64", ""), ("", "HMMA.16816.F32", ""), ("", "BRA", " `(.L_1)"),
    ("", "BRA", " `(.L_0)"),
    (".L_2", "", ""), ("", "LDG.E", ""), ("", "BRA", " `(.L_2)"),
]
found = _narrow(lines, r"\w*MMA\b", r"(LDG|LDGSTS)\b(?!.*\.128)", r"BRA\b", r"(\.L\w+)")
assert found == 1, found
""")


_DIVIDES = """
import triton
import triton.language as tl

@triton.jit
def kernel(a_ptr, out_ptr, k):
    number = tl.load(a_ptr + tl.program_id(0))
    tl.store(out_ptr + tl.program_id(0), number / k if number.dtype.is_floating() else number // k)
"""


def test_a_division_of_64_bit_integers_is_seen(tmp_path: Path, run: Callable[[str], None]) -> None:
    (tmp_path / "divides.py").write_text(_DIVIDES)
    run(f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import divides
from isogloss.kernels.testing.compilation import compile_kernel
for kind, divisions in (("i64", 1), ("i32", 0), ("fp64", 0)):
    types = {{"a_ptr": f"*{{kind}}", "out_ptr": f"*{{kind}}", "k": kind}}
    assert compile_kernel(divides.kernel, types, {{}}, "sm90").divisions == divisions, kind
""")


def test_loads_behind_a_multiplication_are_counted_within_its_tile_only(
    run: Callable[[str], None],
) -> None:
    run("""
from isogloss.kernels.testing.compilation import _late
listing = ["LDG.E", "HGMMA", "BRA", "LDG.E", "LDGSTS.E", "BRA", "LDG.E"]
assert _late(listing, ((1, 2, True), (0, 5, True))) == 1
assert _late(listing, ((1, 2, True),)) == 0
assert _late(listing, ((1, 2, False), (0, 5, False))) == 0
""")


@pytest.mark.timeout(600)
def test_rows_of_a_width_that_16_does_not_divide_are_loaded_128_bits_at_a_time(
    run: Callable[[str], None],
) -> None:
    """Told nothing, the compiler loads such rows element by element."""
    run("""
from dataclasses import replace
from isogloss.kernels.testing.matrix.compile_all import compiled
from isogloss.kernels.testing.matrix.decode import decode_cases
from isogloss.kernels.testing.matrix.gradients import feature_cases, slope_case
for dtype, width in (("fp32", 772), ("bf16", 776)):
    found = [next(decode_cases(dtype, width, ragged=0, extras=1))]
    found += [slope_case(dtype, width, ragged=0)]
    found += [next(feature_cases(dtype, width, ragged=0, listed=0, both=1))]
    for case in found:
        told = compiled(case, "sm90")
        untold = compiled(replace(case, constants={**case.constants, "UNIT": 1}), "sm90")
        assert told.wide_loads > 0 and untold.wide_loads == 0, (case.name, told, untold)
        assert told.loads < untold.loads, (case.name, told.loads, untold.loads)
""")


@pytest.mark.timeout(600)
def test_a_tile_reads_the_biases_of_its_features_about_once_a_thread(
    run: Callable[[str], None],
) -> None:
    """Loaded as a vector, a thread read all 32 biases that it holds, and hashed 64 places."""
    run("""
import torch
from isogloss.kernels.gpu.configs import fitted, table_config
from isogloss.kernels.testing.matrix.compile_all import compiled
from isogloss.kernels.testing.matrix.encode import encode_cases
tile = fitted(table_config("sm90", torch.bfloat16), 32, 24_576)
made = compiled(next(encode_cases("bf16", tile, 32, 24_576)), "sm90")
assert made.loads - made.wide_loads == 2, made
assert made.late_loads == 0, made
assert made.instructions < 1600, made
""")
