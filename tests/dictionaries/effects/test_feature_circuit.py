"""Circuits of features: their parts add up, and a planted one is found."""

from typing import Any

import pytest
import torch
from tests.dictionaries.effects.classes import CLASSES, FOLLOW, SITE, TOKENS, dictionary, model
from tests.dictionaries.live.planted import random_dictionary
from tests.dictionaries.live.tiny_gpt import tiny_gpt

from isogloss.dictionaries import DictionaryModule, feature_circuit
from isogloss.dictionaries.effects.feature_circuit import links
from isogloss.dictionaries.effects.feature_runs import feature_runs
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, TextPairs

FIRST, SECOND = "transformer.h.0", "transformer.h.1"


def tiny() -> tuple[LoadedModel, TextPairs, dict[str, DictionaryModule]]:
    pairs = TextPairs(
        clean=torch.tensor([[5, 8, 13, 21], [4, 2, 7, 18]]),
        corrupt=torch.tensor([[5, 9, 13, 21], [4, 11, 7, 18]]),
        right=((7,), (8,)), wrong=((9,), (10,)), tokens=("a", "b", "c", "d"),
    )  # fmt: skip
    made = {
        SECOND: DictionaryModule(random_dictionary("jumprelu", seed=1)),
        FIRST: DictionaryModule(random_dictionary("jumprelu")),
    }
    return LoadedModel(module=tiny_gpt(layers=3), name="tiny"), pairs, made


def test_links_to_all_later_features_and_to_the_token_add_up_to_the_effect():
    loaded, pairs, made = tiny()
    runs = feature_runs(loaded, pairs, made, "logit_difference", ())
    assert list(runs.dictionaries) == [FIRST, SECOND]  # as the model reaches them
    totals = runs.totals()
    moved = {site: runs.donor[site] - runs.own[site] for site in made}
    sources = [(FIRST, at, f) for at, f in (moved[FIRST] != 0).any(0).nonzero().tolist()[:6]]
    later = [(SECOND, at, f) for at, f in (runs.own[SECOND] > 0).any(0).nonzero().tolist()]
    found = links(runs, [*sources, *later], totals, moved)
    span = runs.corrupt - runs.clean
    for source in sources:
        _, at, feature = source
        effect = float((totals[FIRST] * moved[FIRST])[:, at, feature].sum() / span)
        parts = sum(weight for (start, _), weight in found.items() if start == source)
        assert parts == pytest.approx(effect, rel=1e-3, abs=1e-5)
        assert (source, None) in found


def test_a_circuit_of_all_features_is_the_clean_run_and_of_none_the_floor():
    loaded, pairs, made = tiny()
    found = feature_circuit(loaded, pairs, made, count=10_000, random=2)
    assert found.faithfulness == pytest.approx(1, abs=1e-4)
    assert all(one == pytest.approx(1, abs=1e-4) for one in found.random)
    assert abs(found.floor - 1) > 1e-3
    assert [abs(one) for one in found.effects] == sorted(map(abs, found.effects), reverse=True)
    names = {node.name for node in found.graph.nodes}
    assert len(names) == len(found.places) + 1
    assert {link.target for link in found.graph.links} <= names


def test_the_class_of_the_token_before_is_the_whole_circuit():
    clean = torch.tensor([[3, 0, 9, 5], [1, 4, 9, 6]])
    corrupt = torch.tensor([[3, 0, 10, 5], [1, 4, 10, 6]])
    right, wrong = FOLLOW[9 % CLASSES], FOLLOW[10 % CLASSES]
    pairs = TextPairs(
        clean=clean, corrupt=corrupt, right=((int(right[0]),),) * 2, wrong=((int(wrong[0]),),) * 2,
        tokens=("a", "b", "c", "d"),
    )  # fmt: skip
    found = feature_circuit(model(), pairs, {SITE: dictionary()}, count=2, random=19)
    assert set(found.places) == {
        (SITE, 3, TOKENS + 9 % CLASSES), (SITE, 3, TOKENS + 10 % CLASSES),
    }  # fmt: skip
    assert found.effects == pytest.approx((0.5, 0.5))
    assert found.faithfulness == pytest.approx(1)
    assert found.floor == pytest.approx(0, abs=1e-6)
    assert sum(link.weight for link in found.graph.links) == pytest.approx(1)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"metric": "kl"}, "wanted logit_difference or probability"),
    ({"count": 0}, "1 at least"),
]


@pytest.mark.parametrize(("setting", "said"), BAD)
def test_settings_that_cannot_be_used_are_refused(setting: dict[str, Any], said: str):
    loaded, pairs, made = tiny()
    with pytest.raises(InvalidInput, match=said):
        feature_circuit(loaded, pairs, made, **setting)


def test_two_dictionaries_of_one_site_under_two_names_are_refused():
    loaded, pairs, made = tiny()
    with pytest.raises(InvalidInput, match="two dictionaries are of site"):
        feature_circuit(loaded, pairs, {**made, "h.0": made[FIRST]})


def test_what_was_measured_is_said_beside_what_no_feature_and_random_ones_do():
    loaded, pairs, made = tiny()
    found = feature_circuit(loaded, pairs, made, count=3, random=2)
    assert f"faithfulness {found.faithfulness:.3f}, {found.floor:.3f} of no" in found.graph.facts
    assert f"{max(found.random):.3f} of 2 random circuits" in found.graph.facts
    assert found.graph.sites == (FIRST, SECOND)


def test_no_dictionary_and_one_of_two_sites_are_refused():
    loaded, pairs, _ = tiny()
    with pytest.raises(InvalidInput, match="no dictionary was given"):
        feature_circuit(loaded, pairs, {})
    transcoder = DictionaryModule(random_dictionary(transcodes=True))
    with pytest.raises(InvalidInput, match="reads and writes one site"):
        feature_circuit(loaded, pairs, {FIRST: transcoder})
