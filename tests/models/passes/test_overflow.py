"""Numbers that become infinite when they are stored."""

import pytest
import torch

from isogloss.models.passes.overflow import overflows

ROWS = torch.tensor([[1.0, 7e4, -7e4, float("inf"), float("nan"), 3e38]])


@pytest.mark.parametrize(
    ("given", "stored", "count"),
    [
        (torch.float32, torch.float16, 3),
        (torch.bfloat16, torch.float16, 3),
        (torch.float32, torch.bfloat16, 0),
        (torch.float16, torch.float16, 0),
        (torch.bfloat16, torch.float32, 0),
        (torch.float64, torch.float32, 0),
    ],
)
def test_only_what_was_finite_counts(given: torch.dtype, stored: torch.dtype, count: int) -> None:
    rows = ROWS.to(given)
    assert overflows(rows, rows.to(stored)) == count
