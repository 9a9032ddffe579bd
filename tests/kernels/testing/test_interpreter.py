# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportArgumentType=false
# (two kernels are written here: triton compiles it from the arguments it meets)
"""The interpreter as a test bed: its repairs, poison, and the meter's refusal."""

import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.kernels import (
    Codes,
    encode_topk,
)

triton = pytest.importorskip("triton")

if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)

import triton.language as tl  # noqa: E402 (after the check above)

from isogloss.kernels.gpu.decode import decode as unchecked  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter, poisoned  # noqa: E402
from isogloss.kernels.testing.meter import metering  # noqa: E402


def hot() -> tuple[Codes, Tensor, Tensor, Tensor]:
    """A feature that fires on every one of 200 rows, so that its entries are split."""
    torch.manual_seed(0)
    x, encoder, bias = torch.randn(200, 12), torch.randn(30, 12), torch.zeros(30)
    bias[7] = 50.0
    return encode_topk(x, encoder, bias, 3), torch.randn(200, 12), x, torch.randn(30, 12)


def test_the_meter_refuses_an_access_outside_of_every_argument() -> None:
    codes, _, _, decoder = hot()
    wrong = Codes(values=codes.values[:1], indices=codes.indices[:1] + 10_000, features=20_000)
    refused = pytest.raises(triton.runtime.errors.InterpreterError, match="outside of every tensor")
    with refused, interpreter(), metering():
        unchecked(wrong, decoder, None)


def test_poison_shows_what_a_kernel_leaves_unwritten() -> None:
    with poisoned():
        assert torch.empty(3).isnan().all()
        assert torch.empty_like(torch.ones(2, dtype=torch.int32)).tolist() == [-(2**31)] * 2
    assert torch.empty is not None


@triton.jit
def _topk_kernel(source_ptr, out_ptr, SIZE: tl.constexpr, K: tl.constexpr):
    found = tl.topk(tl.load(source_ptr + tl.arange(0, SIZE)), K)
    tl.store(out_ptr + tl.arange(0, K), found)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_the_interpreters_topk_is_that_of_the_language(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for size, k in ((16, 16), (64, 16), (32, 1), (128, 64)):
        source = torch.randint(-9, 9, (size,), dtype=dtype)
        ours, theirs = torch.empty(2, k, dtype=dtype)
        with interpreter():
            _topk_kernel[(1,)](source, ours, size, k)
        _topk_kernel[(1,)](source, theirs, size, k)
        assert torch.equal(ours, theirs)
        assert torch.equal(ours, source.sort(descending=True).values[:k])


@triton.jit
def _narrow_kernel(source_ptr, out_ptr, SIZE: tl.constexpr):
    lane = tl.arange(0, SIZE)
    tl.store(out_ptr + lane, tl.load(source_ptr + lane).to(tl.bfloat16))


def test_the_interpreter_rounds_to_bfloat16_as_torch_and_devices_do() -> None:
    torch.manual_seed(0)
    source = torch.randn(64) * 10 ** torch.linspace(-38, 38, 64)
    source[:6] = torch.tensor([539.0, 541.0, 1e-40, float("inf"), -float("inf"), float("nan")])
    out = torch.empty(64, dtype=torch.bfloat16)
    with interpreter():
        _narrow_kernel[(1,)](source, out, 64)
    torch.testing.assert_close(out, source.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_an_older_interpreter_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "__version__", "3.6.0")
    with pytest.raises(InvalidInput, match=r"triton is 3\.6\.0; .* from 3\.9 on"), interpreter():
        pass
