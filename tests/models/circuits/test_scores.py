"""Scores of edges: gradients beside passes with one edge cut."""

from typing import Any

import numpy as np
import pytest
from tests.models.circuits.planted import planted, texts
from tests.models.patching.tiny import model, pairs

from isogloss.errors import InvalidInput
from isogloss.models.circuits.scores import score_edges


@pytest.mark.parametrize("name", ["llama", "gpt_neox"])
def test_integrated_gradients_agree_with_the_true_effects(name: str):
    true = score_edges(model(name), pairs(), way="ablation").effects
    near = score_edges(model(name), pairs(), steps=20).effects
    is_edge = ~np.isnan(true)
    assert np.array_equal(is_edge, ~np.isnan(near))
    assert np.corrcoef(true[is_edge], near[is_edge])[0, 1] > 0.95


def test_the_last_edges_of_a_linear_path_are_estimated_exactly():
    tiny, _, renamed = planted(0)
    some = texts(renamed)
    true = score_edges(tiny, some, way="ablation", edges=["m1->logits", "a2.h0->logits"])
    near = score_edges(tiny, some, way="eap")
    at = true.edges.named(["m1->logits", "a2.h0->logits"])
    np.testing.assert_allclose(near.effects[at], true.effects[at], rtol=1e-4)
    assert np.isnan(true.effects).sum() == true.effects.size - 2


def test_highest_edges_come_first_and_with_their_effects():
    found = score_edges(model(), pairs())
    effects = [abs(effect) for _, effect in found.highest(5)]
    assert effects == sorted(effects, reverse=True)
    assert effects[0] == np.nanmax(np.abs(found.effects))
    assert found.top(5).sum() == 5


BAD: list[tuple[dict[str, Any], str]] = [
    ({"steps": 0}, "steps is 0"),
    ({"way": "eap", "metric": "kl"}, "no gradient in the clean run"),
    ({"edges": ["m1->logits"]}, "goes with way='ablation'"),
    ({"way": "ablation", "edges": ["m1->m0"]}, "no edge 'm1->m0'"),
]


@pytest.mark.parametrize(("setting", "said"), BAD)
def test_settings_that_cannot_be_used_are_refused(setting: dict[str, Any], said: str):
    with pytest.raises(InvalidInput, match=said):
        score_edges(model(), pairs(), **setting)
