"""Products of any shape, and what is refused."""

import pytest
import torch

from isogloss.errors import ShapeError
from isogloss.kernels import product


@pytest.mark.parametrize(("rows", "terms", "columns"), [(7, 33, 19), (16, 700, 32), (1, 1, 1)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_products_of_any_shape_are_those_of_torch(
    rows: int, terms: int, columns: int, has_bias: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, terms, generator=generator)
    right = torch.randn(terms, columns, generator=generator)
    bias = torch.randn(columns, generator=generator) if has_bias else None
    found = product(left, right, bias)
    wanted = left.double() @ right.double()
    if bias is not None:
        wanted = wanted + bias
    assert found.shape == (rows, columns)
    assert found.is_contiguous()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("has_bias", [False, True])
def test_gradients_and_theirs_are_those_of_the_equation(has_bias: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = [(7, 33), (33, 19)] + [(19,)] * has_bias
    given = [torch.randn(*shape, generator=generator).requires_grad_() for shape in shapes]
    doubles = [one.detach().double().requires_grad_() for one in given]
    seen: list[list[torch.Tensor]] = []
    for numbers, made in ((given, product(*given)), (doubles, _in_float64(*doubles))):
        first = torch.autograd.grad(made.square().sum(), numbers, create_graph=True)
        size = torch.stack([one.square().sum() for one in first]).sum()
        second = torch.autograd.grad(size, numbers)
        seen.append([made.detach(), *first, *second])
    for found, wanted in zip(*seen, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-2)


def _in_float64(
    left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    return left @ right if bias is None else left @ right + bias


def test_a_product_with_gradients_has_the_bits_of_one_without() -> None:
    left, right = torch.randn(6, 30), torch.randn(30, 7)
    wanted = product(left, right)
    assert torch.equal(product(left.requires_grad_(), right.requires_grad_()), wanted)


def test_factors_that_do_not_fit_are_refused_with_what_was_found() -> None:
    with pytest.raises(ShapeError, match="right"):
        product(torch.ones(3, 4), torch.ones(5, 2))
    with pytest.raises(ShapeError, match="bias"):
        product(torch.ones(3, 4), torch.ones(4, 2), torch.ones(3))
    with pytest.raises(ShapeError, match="left"):
        product(torch.ones(3, 4).double(), torch.ones(4, 2))
