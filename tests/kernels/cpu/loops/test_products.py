"""Products have the same bits with any number of threads, where torch's own do not."""

from collections.abc import Iterator

import pytest
import torch

from isogloss.kernels.cpu.loops.products import even, filled, multiply, product

LONG = [(96, 1072, 1055), (368, 64, 973), (672, 160, 1083), (48, 480, 384), (96, 64, 386)]
"""Rows, columns and terms of products of which MKL has cut the sums between its threads."""


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("rows", "columns", "terms"), [*LONG, (1024, 1040, 900), (23, 45, 1500)])
@pytest.mark.parametrize("is_turned", [False, True])
def test_bits_are_the_same_for_any_number_of_threads(
    rows: int, columns: int, terms: int, is_turned: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, terms, generator=generator)
    right = torch.randn(terms, columns, generator=generator)
    if is_turned:
        left, right = left.T.contiguous().T, right.T.contiguous().T
    found: list[torch.Tensor] = []
    for threads in (1, 2, 3, 4, 8):
        torch.set_num_threads(threads)
        found.append(product(left, right))
    torch.testing.assert_close(found[0], left @ right, rtol=1e-4, atol=1e-3)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_a_bias_is_added_to_every_row() -> None:
    left, right, bias = torch.randn(16, 600), torch.randn(600, 32), torch.randn(32)
    with_bias, without = torch.empty(16, 32), torch.empty(16, 32)
    multiply(left, right, with_bias, bias)
    multiply(left, right, without)
    torch.testing.assert_close(with_bias, without + bias, rtol=1e-5, atol=1e-4)


def test_zeros_fill_what_is_not_even() -> None:
    assert [even(number) for number in (0, 1, 16, 17)] == [0, 16, 16, 32]
    found = filled(torch.ones(2, 3), torch.full((3, 5), torch.nan))
    assert found.tolist() == [[1, 1, 1, 0, 0]] * 2 + [[0] * 5]
    assert filled(torch.ones(2), torch.full((4,), torch.nan)).tolist() == [1, 1, 0, 0]
