import numpy as np
import pytest
import torch

from isogloss.errors import InvalidInput, ShapeError
from isogloss.service.client.held.array_like import ArrayLike


def test_a_tensor_of_bfloat16_keeps_its_numbers_and_comes_back_as_a_tensor() -> None:
    given = torch.tensor([[1.5, -2.25]], dtype=torch.bfloat16).T
    sent = ArrayLike.of("rows", given)
    assert sent.array.dtype.name == "bfloat16"
    assert sent.array.astype(np.float32).tolist() == [[1.5], [-2.25]]
    assert torch.equal(sent.back(np.ones(2, np.float32)), torch.ones(2))


def test_an_array_comes_back_as_it_is() -> None:
    array = np.zeros((2, 3), np.float16)
    sent = ArrayLike.of("rows", array)
    assert sent.array is array
    assert sent.back(array) is array


def test_what_is_neither_or_wants_gradients_is_refused() -> None:
    with pytest.raises(ShapeError, match="rows is a str"):
        ArrayLike.of("rows", "x")  # type: ignore[type-var]
    with pytest.raises(InvalidInput, match="detach"):
        ArrayLike.of("rows", torch.zeros(1, requires_grad=True))
