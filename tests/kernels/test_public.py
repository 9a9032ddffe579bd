"""The room's public names, and what importing it costs."""

import subprocess
import sys

import isogloss.kernels


def test_every_public_name_is_there_and_is_no_module() -> None:
    assert isogloss.kernels.__all__ == sorted(isogloss.kernels.__all__)
    for name in isogloss.kernels.__all__:
        assert callable(getattr(isogloss.kernels, name)), name
    assert dir(isogloss.kernels) == sorted(isogloss.kernels.__all__)


def test_the_cpu_path_never_imports_triton_and_the_room_nothing_heavy() -> None:
    code = """
import sys
import isogloss.kernels
assert not {"torch", "numba", "triton"} & set(sys.modules), "import isogloss.kernels"
import torch
triton = "triton" in sys.modules
from isogloss.kernels import decode, encode_topk
codes = encode_topk(torch.randn(3, 4), torch.randn(5, 4), torch.zeros(5), 2)
decode(codes, torch.randn(5, 4))
assert ("triton" in sys.modules) == triton, "the CPU path imported triton"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
