"""decode against its reference: values and every gradient; ragged codes on CPU and Triton."""

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import Codes, decode, decode_loss, reference

ROWS, FEATURES = 5, 17
DEVICES = ("cpu", "triton")


def path(device: str) -> AbstractContextManager[object]:
    """Where kernels run meanwhile: as the tensors say, or in Triton's interpreter."""
    if device == "cpu":
        return nullcontext()
    return pytest.importorskip("isogloss.kernels.testing.interpreter").interpreter()


def draw(rows: int, k: int, width: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    indices = torch.stack([torch.randperm(FEATURES)[:k] for _ in range(rows)]).int()
    return torch.rand(rows, k), indices, torch.randn(FEATURES, width), torch.randn(width)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("width", [1, 48, 130])
@pytest.mark.parametrize("with_bias", [True, False])
def test_decode_and_its_gradients_match_reference(k: int, width: int, with_bias: bool) -> None:
    values, indices, weight, bias = draw(ROWS, k, width)
    grad = torch.randn(ROWS, width)
    mine = [tensor.clone().requires_grad_() for tensor in (values, weight, bias)]
    codes = Codes(values=mine[0], indices=indices, features=FEATURES)
    out = decode(codes, mine[1], mine[2] if with_bias else None)
    out.backward(grad)
    theirs = [tensor.double().requires_grad_() for tensor in (values, weight, bias)]
    want = reference.decode(theirs[0], indices, theirs[1], theirs[2] if with_bias else None)
    want.backward(grad.double())
    torch.testing.assert_close(out, want.float())
    for name, got, wanted in zip(("values", "weight", "bias"), mine, theirs, strict=True):
        if name == "bias" and not with_bias:
            continue
        assert got.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(
            got.grad, wanted.grad.float(), msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("device", DEVICES)
def test_ragged_decode_and_its_gradients_match_reference(device: str) -> None:
    offsets = torch.tensor([0, 3, 3, 4, 9])
    indices = torch.tensor([4, 2, 9, 2, 0, 1, 2, 3, 16], dtype=torch.int32)
    torch.manual_seed(0)
    start, weight, grad = torch.randn(9), torch.randn(FEATURES, 6), torch.randn(4, 6)
    start[1] = 0  # an entry that does nothing still has a gradient
    bias = torch.randn(6)
    mine = [tensor.clone().requires_grad_() for tensor in (start, weight, bias)]
    codes = Codes(values=mine[0], indices=indices, features=FEATURES, offsets=offsets)
    with path(device):
        out = decode(codes, mine[1], mine[2])
        out.backward(grad)
    theirs = [tensor.double().requires_grad_() for tensor in (start, weight, bias)]
    want = reference.decode_ragged(theirs[0], indices, offsets, theirs[1]) + theirs[2]
    want.backward(grad.double())
    torch.testing.assert_close(out, want.float())
    for name, got, wanted in zip(("values", "weight", "bias"), mine, theirs, strict=True):
        assert got.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(
            got.grad, wanted.grad.float(), msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "lengths", [[3, 0, 5, 1], [0, 0], [1], [], [0, 9, 0]], ids=lambda lengths: str(lengths)
)
def test_ragged_decode_and_loss_match_the_reference_for_every_dtype(
    lengths: list[int], dtype: torch.dtype, device: str
) -> None:
    torch.manual_seed(0)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    indices = torch.cat([torch.randperm(FEATURES)[:n] for n in lengths] + [torch.zeros(0)]).int()
    values, weight = torch.randn(len(indices)).to(dtype), torch.randn(FEATURES, 7).to(dtype)
    target, bias = torch.randn(len(lengths), 7).to(dtype), torch.randn(7).to(dtype)
    codes = Codes(values=values, indices=indices, features=FEATURES, offsets=offsets)
    with path(device):
        out = decode(codes, weight, bias)
        found = decode_loss(codes, weight, target, bias)
    want = reference.decode_ragged(values.double(), indices, offsets, weight.double())
    want += bias.double()
    assert out.dtype == dtype
    torch.testing.assert_close(out, want.to(dtype))
    residual = want - target.double()
    # a sum of at most ten products of numbers near 1, in float32
    torch.testing.assert_close(found.residual, residual.float(), rtol=1e-5, atol=1e-5)
    norms = residual.square().sum(1).float()
    torch.testing.assert_close(found.squared_norms, norms, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_ragged_codes_that_do_not_fit_are_refused(device: str) -> None:
    weight, target = torch.randn(FEATURES, 6), torch.randn(3, 6)
    values, indices = torch.ones(4), torch.tensor([0, 1, 2, 3], dtype=torch.int32)

    def codes(offsets: list[int], shift: int = 0) -> Codes:
        return Codes(
            values=values,
            indices=indices + shift,
            features=FEATURES,
            offsets=torch.tensor(offsets),
        )

    with path(device):
        for offsets in ([0, 2, 1, 4], [1, 2, 3, 4], [0, 1, 2, 5]):
            with pytest.raises(InvalidInput, match="never fall, and end at 4"):
                decode(codes(offsets), weight)
            with pytest.raises(InvalidInput, match="never fall, and end at 4"):
                decode_loss(codes(offsets), weight, target)
        with pytest.raises(InvalidInput, match=r"each must be in \[0, 17\)"):
            decode(codes([0, 1, 2, 4], FEATURES), weight)
        with pytest.raises(ShapeError, match=r"target is \(2, 6\); \[3, 6\] is wanted"):
            decode_loss(codes([0, 1, 2, 4]), weight, target[:2])


def test_decode_keeps_the_dtype_of_the_weight_and_sums_in_float32() -> None:
    values, indices, weight, bias = draw(ROWS, 3, 48)
    codes = Codes(values=values, indices=indices, features=FEATURES)
    half = decode(codes, weight.bfloat16(), bias.bfloat16())
    assert half.dtype == torch.bfloat16
    full = decode(codes, weight.bfloat16().float(), bias.bfloat16().float())
    assert torch.equal(half, full.bfloat16())


@pytest.mark.parametrize("with_bias", [True, False])
def test_decode_loss_gives_the_residual_and_its_squared_norms(with_bias: bool) -> None:
    values, indices, weight, bias = draw(ROWS, 3, 48)
    target = torch.randn(ROWS, 48)
    for codes in (
        Codes(values=values, indices=indices, features=FEATURES),
        Codes(values=values, indices=indices, features=FEATURES).to_ragged(),
    ):
        found = decode_loss(codes, weight, target, bias if with_bias else None)
        want = reference.decode(values, indices, weight, bias if with_bias else None) - target
        torch.testing.assert_close(found.residual, want)
        torch.testing.assert_close(found.squared_norms, want.square().sum(1))
    with pytest.raises(ShapeError, match=r"target is \(4, 48\); \[5, 48\] is wanted"):
        decode_loss(codes, weight, target[:4])


def test_decode_of_no_rows_is_empty() -> None:
    codes = Codes(
        values=torch.zeros(0, 2), indices=torch.zeros(0, 2, dtype=torch.int32), features=3
    )
    assert decode(codes, torch.zeros(3, 4)).shape == (0, 4)


def test_reference_decode_passes_gradcheck() -> None:
    values, indices, weight, bias = (
        tensor.double().requires_grad_() if tensor.is_floating_point() else tensor
        for tensor in draw(3, 2, 4)
    )

    def function(v: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return reference.decode(v, indices, w, b)

    assert torch.autograd.gradcheck(function, (values, weight, bias))


def test_decode_refuses_what_does_not_fit() -> None:
    values, indices, weight, _ = draw(ROWS, 3, 8)
    codes = Codes(values=values, indices=indices, features=FEATURES)
    with pytest.raises(ShapeError, match=r"weight is \(16, 8\); \[17, \*\] is wanted"):
        decode(codes, weight[:-1])
    with pytest.raises(ShapeError, match=r"bias is \(7,\); \[8\] is wanted"):
        decode(codes, weight, torch.zeros(7))
    with pytest.raises(ShapeError, match=r"bias is torch\.float64; float32, bfloat16"):
        decode(codes, weight, torch.zeros(8).double())
    with pytest.raises(ShapeError, match=r"bias is torch\.float64; float32, bfloat16"):
        decode_loss(codes, weight, torch.zeros(ROWS, 8), torch.zeros(8).double())
    with pytest.raises(ShapeError, match="weight has strides"):
        decode(codes, torch.zeros(8, FEATURES).T)
    wrong = indices.clone()
    wrong[1, 1], wrong[0, 0] = FEATURES, 0
    with pytest.raises(InvalidInput, match=r"indices span \[0, 17\]; each must be in \[0, 17\)"):
        decode(Codes(values=values, indices=wrong, features=FEATURES), weight)
    torn = Codes(
        values=torch.ones(3),
        indices=torch.zeros(3, dtype=torch.int32),
        features=FEATURES,
        offsets=torch.tensor([0, 5, 3]),
    )
    with pytest.raises(InvalidInput, match="never fall, and end at 3"):
        decode(torn, weight)
