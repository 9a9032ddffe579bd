"""sparse_gradients on the CPU against the dense reference and against autograd."""

import pytest
import torch

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import Codes, encode_topk, reference, sparse_gradients

NAMES = ("values", "decoder", "encoder", "encoder_bias")


def problem(
    rows: int, width: int, features: int, k: int
) -> tuple[Codes, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x, encoder = torch.randn(rows, width), torch.randn(features, width)
    codes = encode_topk(x, encoder, torch.randn(features), k)
    return codes, torch.randn(rows, width), x, torch.randn(features, width)


@pytest.mark.parametrize(
    ("rows", "width", "features", "k"),
    [(1, 1, 1, 1), (5, 48, 130, 7), (130, 130, 70, 32), (40, 16, 9, 9)],
)
def test_gradients_match_reference(rows: int, width: int, features: int, k: int) -> None:
    codes, grad, x, decoder = problem(rows, width, features, k)
    found = sparse_gradients(codes, grad, x, decoder)
    wanted = reference.sparse_gradients(
        codes.values.double(), codes.indices, grad.double(), x.double(), decoder.double()
    )
    for name, want in zip(NAMES, wanted, strict=True):
        torch.testing.assert_close(
            getattr(found, name),
            want.float(),
            rtol=1e-5,
            atol=1e-4,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_gradients_of_the_whole_dictionary_match_autograd() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(20, 8).double(), torch.randn(20, 8).double()
    encoder, bias, decoder = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((30, 8), (30,), (30, 8))
    )
    values, indices = reference.encode_topk(x, encoder, bias, 4)
    xhat = reference.decode(values, indices, decoder)
    (xhat - target).square().sum().backward()
    codes = Codes(values=values.detach().float(), indices=indices.int(), features=30)
    grad = (2 * (xhat - target)).detach()
    found = sparse_gradients(codes, grad.float(), x.float(), decoder.detach().float())
    for name, parameter in (("decoder", decoder), ("encoder", encoder), ("encoder_bias", bias)):
        assert parameter.grad is not None
        torch.testing.assert_close(
            getattr(found, name).double(),
            parameter.grad,
            rtol=1e-5,
            atol=1e-4,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_touched_rows_only_gives_the_same_rows_and_no_others() -> None:
    codes, grad, x, decoder = problem(6, 12, 500, 3)
    whole = sparse_gradients(codes, grad, x, decoder)
    part = sparse_gradients(codes, grad, x, decoder, touched_rows_only=True)
    assert whole.features is None
    assert part.features is not None
    assert part.features.tolist() == sorted(set(codes.indices[codes.values != 0].tolist()))
    assert torch.equal(part.values, whole.values)
    for name in NAMES[1:]:
        full = getattr(whole, name)
        assert torch.equal(getattr(part, name), full[part.features]), name
        rest = torch.ones(500, dtype=torch.bool)
        rest[part.features] = False
        assert not full[rest].any(), name


def test_ragged_codes_give_the_same_bits_as_fixed_ones() -> None:
    codes, grad, x, decoder = problem(20, 12, 50, 6)
    fixed = sparse_gradients(codes, grad, x, decoder)
    ragged = sparse_gradients(codes.to_ragged(), grad, x, decoder)
    for name in NAMES[1:]:
        assert torch.equal(getattr(fixed, name), getattr(ragged, name)), name


def test_gradients_refuse_what_does_not_fit() -> None:
    codes, grad, x, decoder = problem(6, 12, 50, 3)
    with pytest.raises(ShapeError, match=r"grad is \(5, 12\); \[6, 12\] is wanted"):
        sparse_gradients(codes, grad[:5], x, decoder)
    with pytest.raises(ShapeError, match=r"x is \(6, 11\); \[6, 12\] is wanted"):
        sparse_gradients(codes, grad, x[:, :11], decoder)
    with pytest.raises(ShapeError, match=r"grad is torch\.float64"):
        sparse_gradients(codes, grad.double(), x, decoder)
    wrong = Codes(values=codes.values, indices=codes.indices - 50, features=50)
    with pytest.raises(InvalidInput, match="indices span"):
        sparse_gradients(wrong, grad, x, decoder)
