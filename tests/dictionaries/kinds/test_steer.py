"""The weight of a penalty follows what fires, and every kind that steers ends near its target."""

import math

import pytest
import torch

from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.kinds.steer import (
    first_threshold,
    start_weight,
    steer,
    steered_weight,
)
from isogloss.dictionaries.testing.planted import WIRINGS, PlantedRun, planted


def test_the_weight_rises_while_too_many_fire_and_falls_while_too_few_do():
    tensors = start_weight(0.1)
    steer(tensors, 40.0, 20.0, 8, 800)
    assert steered_weight(tensors) == pytest.approx(0.1 * math.exp(0.02 * 0.99 * math.log(2)))
    before = steered_weight(tensors)
    steer(tensors, 10.0, 20.0, 1, 800)
    assert steered_weight(tensors) < before


def test_no_step_of_a_long_run_moves_it_by_more_than_two_percent_and_the_last_not_at_all():
    for l0 in (0.0, 1e9):
        tensors = start_weight(1.0)
        steer(tensors, l0, 20.0, 1, 10**9)
        assert abs(math.log(steered_weight(tensors))) == pytest.approx(0.02)
        steer(tensors, l0, 20.0, 100, 100)
        assert abs(math.log(steered_weight(tensors))) == pytest.approx(0.02)


def test_short_runs_move_faster_but_never_by_more_than_a_tenth():
    for total, wanted in ((200, 0.08), (20, 0.1)):
        tensors = start_weight(1.0)
        steer(tensors, 1e9, 20.0, 0, total)
        assert math.log(steered_weight(tensors)) == pytest.approx(wanted)


def test_as_many_normal_numbers_lie_above_the_first_threshold_as_are_meant_to():
    drawn = torch.randn(200, 1000, generator=torch.Generator().manual_seed(0))
    found = float((drawn > first_threshold(30.0, 1000)).sum(1).float().mean())
    assert found == pytest.approx(30.0, rel=0.03)


@pytest.mark.parametrize("kind", ["relu_l1", "gated"])
@pytest.mark.parametrize("target", [1.0, 1.5])
def test_so_many_features_fire_as_were_asked_for(kind: str, target: float):
    # 1.5 are planted on a row; more would be worth nothing, at any price
    made = make_kind(kind, {"features": 40, "target_l0": target})
    run = PlantedRun(kind=made, wired=WIRINGS["sae"], steps=400)
    run.take(1, 400)
    rows, _ = planted(1024, 9, 1)
    found = run.finish().encode(rows).to_ragged().values.numel() / 1024
    assert found == pytest.approx(target, rel=0.3)
