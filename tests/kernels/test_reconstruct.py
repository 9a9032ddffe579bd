"""decode on the CPU against its reference: values and every gradient, fixed k and ragged."""

import pytest
import torch

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import Codes, decode, decode_loss, reference

ROWS, FEATURES = 5, 17


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


def test_ragged_decode_and_its_gradients_match_reference() -> None:
    offsets = torch.tensor([0, 3, 3, 4, 9])
    indices = torch.tensor([4, 2, 9, 2, 0, 1, 2, 3, 16], dtype=torch.int32)
    torch.manual_seed(0)
    start, weight, grad = torch.randn(9), torch.randn(FEATURES, 6), torch.randn(4, 6)
    mine = [start.clone().requires_grad_(), weight.clone().requires_grad_()]
    codes = Codes(values=mine[0], indices=indices, features=FEATURES, offsets=offsets)
    out = decode(codes, mine[1])
    out.backward(grad)
    theirs = [start.clone().requires_grad_(), weight.clone().requires_grad_()]
    want = reference.decode_ragged(theirs[0], indices, offsets, theirs[1])
    want.backward(grad)
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(mine[0].grad, theirs[0].grad, msg=lambda m: f"values: {m}")
    torch.testing.assert_close(mine[1].grad, theirs[1].grad, msg=lambda m: f"weight: {m}")


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
