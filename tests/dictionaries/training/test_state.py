import dataclasses

import pytest
import torch

from isogloss.dictionaries import Source, TrainConfig
from isogloss.dictionaries.training.plan import TrainPlan, make_plan
from isogloss.dictionaries.training.state import TrainState, mean_cosine
from isogloss.errors import NonFiniteRows
from isogloss.kernels import StepResult

CPU = torch.device("cpu")


@pytest.fixture
def plan(sources: list[Source], small_config: TrainConfig) -> TrainPlan:
    return make_plan(small_config, sources)


def _result(fired: list[int]) -> StepResult:
    counts = torch.zeros(96, dtype=torch.int32)
    counts[fired] = 2
    return StepResult(squared_error=8.0, loss=0.5, aux_loss=0.0, fired=counts)


def test_a_feature_is_dead_once_it_was_silent_for_so_many_rows(plan: TrainPlan):
    state = TrainState.start(plan, CPU)
    assert state.dead(100) is None
    state.count(_result([0, 1]), 60)
    state.count(_result([1]), 60)
    dead = state.dead(100)
    assert dead is not None
    assert dead.tolist() == [False, False] + [True] * 94
    assert state.dead(121) is None


def test_progress_is_the_mean_since_the_last_point(plan: TrainPlan):
    state = TrainState.start(plan, CPU)
    state.count(_result([0, 1]), 10)
    state.count(dataclasses.replace(_result([1]), loss=1.0), 30)
    point = state.progress(plan, rows_per_s=1.0, close_window=True)
    assert (point.step, point.rows) == (2, 40)
    assert point.loss == pytest.approx((10 * 0.5 + 30 * 1.0) / 40)
    assert point.fvu == pytest.approx(8.0 / state.normalisation.variance)
    assert point.l0 == pytest.approx(6 / 40)
    state.count(_result([0]), 10)
    after = state.progress(plan, rows_per_s=1.0, close_window=False)
    assert (after.rows, after.loss, after.l0) == (50, 0.5, 0.2)


def test_a_loss_that_is_not_finite_ends_the_run(plan: TrainPlan):
    state = TrainState.start(plan, CPU)
    with pytest.raises(NonFiniteRows, match="loss is inf at step 0"):
        state.count(dataclasses.replace(_result([]), loss=float("inf")), 10)


def test_the_cosine_of_directions_ignores_their_lengths():
    left = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    right = torch.tensor([[5.0, 0.0], [1.0, 0.0]])
    assert mean_cosine(left, right) == pytest.approx(0.5)
