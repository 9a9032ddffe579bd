"""Scores of heads."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.elements.families import IDS, family
from torch import Tensor

from isogloss.errors import InvalidInput, MissingExtra
from isogloss.models import LoadedModel, load_model, splice
from isogloss.models.attention.patterns import Head
from isogloss.models.attention.scores import KINDS, head_scores, repeated_ids

MODEL = LoadedModel(module=family("llama"), name="tiny")
ROW = [7, 8, 9, 7, 8, 9, 7]


def planted(keys: dict[int, int]) -> Tensor:
    """Return a pattern in which some queries look at one key, and the others at themselves."""
    return torch.eye(7)[[keys.get(query, query) for query in range(7)]]


PLANTED = {
    "previous": {query: query - 1 for query in range(1, 7)},
    "first": dict.fromkeys(range(1, 7), 0),
    "duplicate": {3: 0, 4: 1, 5: 2, 6: 3},
    "induction": {3: 1, 4: 2, 5: 3, 6: 4},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_looks_where_its_kind_does_scores_one(kind: Any):
    site = "model.layers.1.self_attn.head.2.pattern"
    with splice(MODEL.module, {site: lambda p: planted(PLANTED[kind]).expand_as(p).clone()}):
        found = head_scores(MODEL, [ROW])
    table = found.scores[kind]
    assert table[1, 2] == pytest.approx(1)
    assert found.highest(kind, 1) == [(Head(layer=1, head=2), pytest.approx(1))]
    assert table[0].max() < 0.999


def test_the_null_is_a_head_that_looks_everywhere_alike():
    uniform = torch.ones(7, 7).tril()
    uniform /= uniform.sum(1, keepdim=True)
    site = "model.layers.0.self_attn.heads.pattern"
    with splice(MODEL.module, {site: lambda p: uniform.expand_as(p).clone()}):
        found = head_scores(MODEL, [ROW])
    for kind in KINDS:
        np.testing.assert_allclose(found.scores[kind][0], found.null[kind], rtol=1e-6)
    assert found.queries == {"previous": 6, "first": 6, "duplicate": 4, "induction": 4}


def test_of_an_encoder_the_null_is_of_all_keys():
    encoder = LoadedModel(module=family("bert"), name="tiny")
    found = head_scores(encoder, IDS, causal=False)
    assert found.null["previous"] == pytest.approx(1 / 7)


def test_sequences_repeat_at_distances_of_their_own():
    ids = repeated_ids(MODEL, sequences=12, tokens=30, seed=3)
    periods = [next(p for p in range(1, 30) if torch.equal(row[p:], row[: 30 - p])) for row in ids]
    assert min(periods) >= 10
    assert max(periods) <= 15
    assert len(set(periods)) > 3
    assert torch.equal(ids, repeated_ids(MODEL, sequences=12, tokens=30, seed=3))
    assert not torch.equal(ids, repeated_ids(MODEL, sequences=12, tokens=30, seed=4))


def test_sequences_that_the_model_cannot_read_are_refused():
    gpt2 = LoadedModel(module=family("gpt2"), name="tiny")
    with pytest.raises(InvalidInput, match="40 tokens, the model reads 32"):
        repeated_ids(gpt2, tokens=40)
    with pytest.raises(InvalidInput, match="33 tokens, the model reads 32"):
        head_scores(gpt2, [[1] * 33])
    with pytest.raises(InvalidInput, match="wanted one length"):
        head_scores(gpt2, [[1, 2], [1, 2, 3]])
    with pytest.raises(InvalidInput, match="wanted 1 of 6"):
        repeated_ids(gpt2, tokens=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("packaged:smollm2-135m", {"18.6": 0.9, "17.4": 0.7}),
        ("packaged:gemma3-270m", {"5.1": 0.8, "11.2": 0.55}),
    ],
)
def test_the_induction_heads_of_packaged_models_come_first(
    name: str, known: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ISOGLOSS_CACHE", os.environ.get("ISOGLOSS_TEST_CACHE", str(tmp_path)))
    try:
        found = head_scores(load_model(name, causal=True))
    except MissingExtra as error:
        pytest.skip(str(error))
    first = {str(head): score for head, score in found.highest("induction", 4)}
    for head, least in known.items():
        assert first[head] > least > 5 * found.null["induction"]
