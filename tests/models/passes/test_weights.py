"""Weights that change between passes are seen, however they are written."""

import pytest
import torch
from torch import nn

from isogloss.models import WeightWatch


def made() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def step_of(name: str, model: nn.Module) -> None:
    """Change the weights as one of several ways of training does."""
    if name == "data":  # past the count of changes
        for weight in model.parameters():
            weight.data.add_(1.0)
        return
    if name == "load":
        model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})
        return
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.AdamW}[name]
    model(torch.randn(3, 4)).square().sum().backward()
    kind(model.parameters(), lr=0.1).step()


@pytest.mark.parametrize("way", ["sgd", "adam", "data", "load"])
def test_an_update_is_seen_within_a_step_and_not_from_step_to_step(way: str) -> None:
    model = made()
    watch = WeightWatch(model)
    assert not watch.has_changed(1)
    assert not watch.has_changed(1)
    step_of(way, model)
    assert watch.has_changed(1)
    assert watch.has_changed(1)
    assert not watch.has_changed(2)
    step_of(way, model)
    assert not watch.has_changed(3)


def test_an_adapter_is_seen_beside_frozen_weights() -> None:
    model = made().requires_grad_(False)
    adapter = nn.Parameter(torch.ones(3))
    model.register_parameter("adapter", adapter)
    watch = WeightWatch(model)
    assert not watch.has_changed(0)
    adapter.data.add_(1.0)
    assert watch.has_changed(0)


def test_what_leaves_the_weights_as_they_are_is_no_change() -> None:
    model = made()
    watch = WeightWatch(model)
    assert not watch.has_changed(0)
    model.train()(torch.randn(5, 4)).sum().backward()  # running means are no weights
    model.requires_grad_(False).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.0)  # counted by torch, and nothing changed
    assert not watch.has_changed(0)


def test_weights_that_cannot_be_looked_at_are_not_watched() -> None:
    with torch.inference_mode():
        inference = made()
    for model in (nn.Linear(3, 3, device="meta"), nn.ReLU(), inference):
        watch = WeightWatch(model)
        assert not watch.has_changed(0)
        assert not watch.has_changed(0)
