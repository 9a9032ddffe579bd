"""encode_topk by Triton, in the interpreter: repairs, ties, rounding."""

import pytest
import torch
from torch import Tensor

from isogloss.kernels import (
    reference,
)

triton = pytest.importorskip("triton")

if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)


from isogloss.kernels.gpu import encode as gpu_encode  # noqa: E402
from isogloss.kernels.gpu.configs import EncodeConfig  # noqa: E402
from isogloss.kernels.testing import properties  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter, poisoned  # noqa: E402

SMALL = EncodeConfig(rows=16, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2)


def by_triton(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    with interpreter(), poisoned():
        return gpu_encode.encode_topk(x, weight, bias, k, SMALL)


def draw(kind: str, rows: int, width: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    inputs = properties.draw(kind, rows, width, features, 0)
    return inputs.x.float(), inputs.weight.float(), inputs.bias.float()


def test_crowded_programs_are_repaired_and_others_are_not() -> None:
    torch.manual_seed(0)
    x, weight, bias = draw("one program", 3, 8, 256)  # 4 programs of 64 features
    _, indices, repaired = by_triton(x, weight, bias, 12)
    order = reference.encode_topk(x, weight, bias, 12)[1]
    assert torch.equal(indices.long(), order)
    assert repaired.tolist() == [1, 1, 1]
    spread = torch.full((256,), -100.0)
    spread[:12] = 100.0  # 3 winners a program, of 4 kept
    _, indices, repaired = by_triton(x, weight, spread, 12)
    assert torch.equal(indices.long(), reference.encode_topk(x, weight, spread, 12)[1])
    assert repaired.tolist() == [0, 0, 0]


def test_a_dictionary_ordered_by_frequency_does_not_crowd_a_program() -> None:
    """Winners among the first features, as in Matryoshka prefixes: strided programs share them."""
    torch.manual_seed(0)
    x, weight = torch.randn(16, 16), torch.randn(512, 16) / 4
    bias = torch.where(torch.arange(512) < 64, 3.0, -3.0)
    _, indices, repaired = by_triton(x, weight, bias, 8)
    assert (indices < 64).float().mean() > 0.9
    assert repaired.sum() <= 2


def test_real_numbers_agree_with_float64_to_rounding() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(20, 50), torch.randn(333, 50), torch.randn(333)
    values, indices, _ = by_triton(x, weight, bias, 9)
    wanted, order = reference.encode_topk(x.double(), weight.double(), bias.double(), 9)
    torch.testing.assert_close(values, wanted.float(), rtol=1e-5, atol=1e-5)
    assert (indices.long() == order).float().mean() > 0.99


def test_large_k_and_wide_lists_are_exact() -> None:
    torch.manual_seed(0)
    x, weight, bias = draw("ties", 1, 5, 90)
    _, indices, _ = by_triton(x, weight, bias, 50)
    assert torch.equal(indices.long(), reference.encode_topk(x, weight, bias, 50)[1])
