import pytest
import torch

from isogloss.dictionaries.kinds.optimise import (
    clip_bound,
    column_sums,
    feature_totals,
    ordered_sum,
    share_of_warmup,
)
from isogloss.kernels import Codes


def test_sums_are_those_of_float64():
    generator = torch.Generator().manual_seed(0)
    rows, weights = torch.randn(70, 12, generator=generator), torch.randn(70, generator=generator)
    assert ordered_sum(weights) == pytest.approx(float(weights.double().sum()), rel=1e-12)
    torch.testing.assert_close(column_sums(rows), rows.double().sum(0).float())
    codes = Codes(
        values=torch.tensor([[1.0, 2.0], [4.0, 8.0]]),
        indices=torch.tensor([[0, 2], [2, 1]], dtype=torch.int32),
        features=4,
    )
    assert feature_totals(codes).tolist() == [1.0, 8.0, 6.0, 0.0]


@pytest.mark.parametrize(("given", "wanted"), [(None, 0.25), (0.0, None), (0.5, 0.5)])
def test_a_bound_that_is_not_given_is_one_for_a_loss_not_divided_by_the_variance(
    given: float | None, wanted: float | None
):
    assert clip_bound(given, 4.0) == wanted


@pytest.mark.parametrize(
    ("step", "total", "warmup", "wanted"),
    [(1, 10, 0.0, 1.0), (1, 10, 0.5, 0.2), (5, 10, 0.5, 1.0), (9, 10, 1.0, 0.9), (1, 3, 0.1, 1.0)],
)
def test_a_penalty_rises_linearly(step: int, total: int, warmup: float, wanted: float):
    assert share_of_warmup(step, total, warmup) == pytest.approx(wanted)
