"""Codes split by prefix, and the gradient each part receives."""

import torch

from isogloss.kernels import Codes
from isogloss.kernels.values.prefixes import by_prefix, suffix_sums


def test_an_entry_goes_to_its_shortest_prefix_and_keeps_its_place() -> None:
    codes = Codes(
        values=torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        indices=torch.tensor([[5, 0, 2], [7, 3, 1]], dtype=torch.int32),
        features=8,
    )
    apart, entries = by_prefix(codes, (2, 6))
    assert apart.rows == 4
    assert apart.offsets is not None
    assert apart.offsets.tolist() == [0, 1, 2, 4, 5]  # feature 7 is in no prefix
    assert apart.values.tolist() == [2.0, 6.0, 1.0, 3.0, 5.0]
    assert torch.equal(codes.values.flatten()[entries], apart.values)


def test_suffix_sums_add_the_gradients_of_longer_prefixes() -> None:
    grad = torch.tensor([[[1.0]], [[10.0]], [[100.0]]])
    assert suffix_sums(grad).flatten().tolist() == [111.0, 110.0, 100.0]
