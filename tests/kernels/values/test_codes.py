"""Codes: what they refuse, and their canonical ragged form."""

import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import Codes
from isogloss.kernels.testing.contracts import CodesContract


def make(values: list[list[float]], indices: list[list[int]], features: int = 9) -> Codes:
    return Codes(
        values=torch.tensor(values),
        indices=torch.tensor(indices, dtype=torch.int32),
        features=features,
    )


def test_ragged_codes_drop_zeros_and_sort_indices_within_each_row() -> None:
    ragged = make(
        [[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [2.0, 5.0, 0.5]], [[7, 2, 0], [0, 1, 2], [8, 3, 4]]
    )
    found = ragged.to_ragged()
    assert found.is_ragged
    assert found.rows == 3
    assert found.offsets is not None
    assert found.offsets.tolist() == [0, 2, 2, 5]
    assert found.indices.tolist() == [2, 7, 3, 4, 8]
    assert found.indices.dtype == torch.int32
    assert found.values.tolist() == [1.0, 3.0, 5.0, 0.5, 2.0]


def test_ragged_form_of_ragged_codes_is_itself() -> None:
    once = make([[3.0, 1.0, 0.0], [2.0, 5.0, 0.5]], [[7, 2, 0], [8, 3, 4]]).to_ragged()
    twice = once.to_ragged()
    assert once.offsets is not None
    assert twice.offsets is not None
    assert torch.equal(once.values, twice.values)
    assert torch.equal(once.indices, twice.indices)
    assert torch.equal(once.offsets, twice.offsets)


def test_codes_without_rows_become_ragged() -> None:
    empty = Codes(
        values=torch.zeros(0, 3), indices=torch.zeros(0, 3, dtype=torch.int32), features=4
    )
    assert empty.k == 3
    assert empty.to_ragged().rows == 0


def test_codes_refuse_what_does_not_fit_together() -> None:
    indices = torch.zeros(2, 3, dtype=torch.int32)
    with pytest.raises(ShapeError, match=r"values \(2, 4\) and indices \(2, 3\) must match"):
        Codes(values=torch.zeros(2, 4), indices=indices, features=5)
    with pytest.raises(ShapeError, match=r"indices are torch.int64; convert them to torch.int32"):
        Codes(values=torch.zeros(2, 3), indices=indices.long(), features=5)
    with pytest.raises(ShapeError, match=r"values are torch.int32"):
        Codes(values=indices, indices=indices, features=5)
    with pytest.raises(InvalidInput, match="features is 0"):
        Codes(values=torch.zeros(2, 3), indices=indices, features=0)
    with pytest.raises(ShapeError, match=r"values have 1 dimensions"):
        Codes(values=torch.zeros(3), indices=indices[0], features=5)
    with pytest.raises(ShapeError, match=r"ragged codes want values \[entries\]"):
        Codes(values=torch.zeros(2, 3), indices=indices, features=5, offsets=torch.tensor([0, 3]))
    with pytest.raises(ShapeError, match=r"offsets are torch.int32"):
        Codes(values=torch.zeros(3), indices=indices[0], features=5, offsets=indices[0])
    ragged = make([[1.0]], [[0]]).to_ragged()
    with pytest.raises(InvalidInput, match="ragged codes have no k"):
        _ = ragged.k


class TestCodes(CodesContract):
    def make(
        self, values: Tensor, indices: Tensor, features: int, offsets: Tensor | None = None
    ) -> Codes:
        return Codes(values=values, indices=indices, features=features, offsets=offsets)


def test_ragged_codes_are_filled_up_strongest_first() -> None:
    ragged = Codes(
        values=torch.tensor([1.0, 3.0, 3.0, 2.0]),
        indices=torch.tensor([0, 5, 4, 1], dtype=torch.int32),
        features=8,
        offsets=torch.tensor([0, 3, 3, 4]),
    )
    fixed = ragged.to_fixed()
    assert fixed.values.tolist() == [[3.0, 3.0, 1.0], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]
    assert fixed.indices.tolist() == [[4, 5, 0], [0, 0, 0], [1, 0, 0]]
    again = fixed.to_ragged()
    assert torch.equal(again.values, torch.tensor([1.0, 3.0, 3.0, 2.0]))
    assert fixed.to_fixed() is fixed
    none = Codes(
        values=torch.zeros(0),
        indices=torch.zeros(0, dtype=torch.int32),
        features=8,
        offsets=torch.zeros(3, dtype=torch.int64),
    )
    assert none.to_fixed().values.shape == (2, 0)
