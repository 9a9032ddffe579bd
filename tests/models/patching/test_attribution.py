"""Attribution patching beside true effects."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.patching.tiny import model, pairs
from torch import Tensor, nn

from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, capture, splice
from isogloss.models.patching.attribution import agreement, attribute
from isogloss.models.patching.metrics import last_logits, measure
from isogloss.models.patching.tracing import trace

SITES = ["layers.0", "layers.1", "layers.0.attn.head.3", "layers.1.mlp", "layers.1.attn.heads.q"]


class Linear(nn.Module):
    """Sums its embeddings over the tokens so far: linear in every activation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(50, 8), nn.Linear(8, 50)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.embed(ids).cumsum(1))


@pytest.mark.parametrize("mode", ["denoise", "noise"])
def test_it_is_exact_where_the_model_is_linear(mode: Any):
    linear = LoadedModel(module=Linear(), name="linear")
    single = replace(pairs(), wrong=((9,), (10,)))
    estimated = attribute(linear, single, ["embed", "out.input"], mode=mode)
    true = trace(linear, single, ["embed", "out.input"], mode=mode)
    np.testing.assert_allclose(estimated.effects, true.effects, atol=1e-5)
    assert agreement(estimated, true) == pytest.approx(1)


def test_it_is_the_derivative_of_the_true_effect():
    """A hundredth of the way to the other run's activation and back, on both sides of its own.

    The error of the difference is of the square of that, and rounding within norms of 1e-7 / 1e-2.
    """
    module, some, way = model().module, pairs(), 1e-2
    found = attribute(model(), some, SITES, positions="all")
    seen: list[dict[str, Tensor]] = []
    for ids in (some.clean, some.corrupt):
        with torch.no_grad(), capture(module, SITES) as captured:
            module(ids)
        seen.append({site: captured[site] for site in SITES})
    for i, site in enumerate(SITES):
        step = way * (seen[0][site] - seen[1][site])
        sides: list[float] = []
        for sign in (1, -1):
            with torch.no_grad(), splice(module, {site: lambda own, by=sign * step: own + by}):
                logits = last_logits(module, some.corrupt)
            sides.append(float(measure("logit_difference", logits, some, logits).mean()))
        slope = (sides[0] - sides[1]) / (2 * way)
        assert found.values[i, 0] - found.corrupt == pytest.approx(slope, rel=0.02, abs=2e-3)


def test_weights_get_no_gradient_and_the_model_stays_as_it_was():
    module = model().module
    # transformers leaves hooks of its own once patterns were asked for
    hooks = [(*m._forward_hooks, *m._forward_pre_hooks) for m in module.modules()]
    attribute(model(), pairs(), SITES)
    assert all(parameter.grad is None for parameter in module.parameters())
    assert [(*m._forward_hooks, *m._forward_pre_hooks) for m in module.modules()] == hooks


def test_frozen_weights_and_no_grad_are_no_hindrance():
    module = model().module
    wanted = attribute(model(), pairs(), SITES).effects
    try:
        module.requires_grad_(False)
        with torch.no_grad():
            found = attribute(model(), pairs(), SITES).effects
    finally:
        module.requires_grad_(True)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_gradient_that_is_zero_everywhere_is_refused():
    with pytest.raises(InvalidInput, match="no gradient in the clean run"):
        attribute(model(), pairs(), SITES, metric="kl", mode="noise")


def test_other_grids_are_not_compared():
    one, other = (attribute(model(), pairs(), [site]) for site in SITES[:2])
    with pytest.raises(InvalidInput, match="other sites or positions"):
        agreement(one, other)
