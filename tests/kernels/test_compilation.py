"""The compile matrix: kernels compiled, by a process of its own, for GPUs that are not here."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")


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


def test_the_main_kernels_compile_for_hopper_without_spills_or_float_atomics() -> None:
    code, lines = matrix("--quick", "sm90", timeout_s=280)
    assert {line["target"] for line in lines} == {"sm90"}
    assert len(lines) == 8
    assert [line for line in lines if line["faults"]] == []
    assert code == 0


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_kernel_compiles_for_every_target_without_fault() -> None:
    code, lines = matrix(timeout_s=2900)
    assert len({line["target"] for line in lines}) == 7
    assert [line for line in lines if line["faults"]] == []
    assert code == 0


def test_an_interpreting_process_refuses_to_compile() -> None:
    code = """
from isogloss.errors import InvalidInput
from isogloss.kernels.gpu.decode import _slopes_kernel
from isogloss.kernels.testing.compilation import compile_kernel
for target, message in (("sm90", "without TRITON_INTERPRET"), ("sm1", "target is 'sm1'")):
    try:
        compile_kernel(_slopes_kernel, {}, {}, target)
    except InvalidInput as error:
        assert message in str(error), error
    else:
        raise AssertionError(target)
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100, env=environment)
