"""Promoted and suppressed tokens."""

import pytest
import torch
from tests.dictionaries.effects.classes import noting
from tests.dictionaries.live.planted import random_dictionary
from tests.dictionaries.live.tiny_gpt import tiny_gpt

from isogloss.dictionaries import DictionaryModule
from isogloss.dictionaries.effects.shifts import shifts
from isogloss.dictionaries.effects.token_lists import TokenEffects
from isogloss.dictionaries.effects.tokens import token_effects
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel

IDS = torch.arange(32).reshape(4, 8)
SITE = "transformer.h.0"


def measured() -> list[TokenEffects]:
    gpt = LoadedModel(module=tiny_gpt(), name="tiny")
    return token_effects(
        DictionaryModule(random_dictionary()), gpt, IDS, [3, 9], count=4, site=SITE
    )


def test_lists_are_the_ends_of_the_shifts_each_way():
    one, two = measured()
    assert (one.feature, two.feature) == (3, 9)
    for effects in (one, two):
        up, down = (
            [each.change for each in some] for some in (effects.promoted, effects.suppressed)
        )
        assert up == sorted(up, reverse=True)
        assert down == sorted(down)
        assert len(up) == len(down) == 4
        assert up[0] > 0 > down[0]
        assert -1 <= effects.agreement <= 1
    assert one.promoted != one.direct_promoted
    gpt = LoadedModel(module=tiny_gpt(), name="tiny")
    found = shifts(DictionaryModule(random_dictionary()), gpt, IDS, [3], norm=9.0, site=SITE)
    assert one.promoted[0].token == str(one.promoted[0].token_id)
    assert found[0, one.promoted[0].token_id] > 0


def test_counts_and_strengths_of_nothing_are_refused():
    gpt = LoadedModel(module=tiny_gpt(), name="tiny")
    made = DictionaryModule(random_dictionary())
    with pytest.raises(InvalidInput, match="wanted above 0"):
        token_effects(made, gpt, IDS, [3], strength=0.0, site=SITE)
    with pytest.raises(InvalidInput, match="wanted above 0"):
        token_effects(made, gpt, IDS, [3], count=0, site=SITE)


@pytest.mark.parametrize(
    ("features", "said"),
    [([40], "0 to 39"), ([3, -1], "0 to 39"), ([], "0 to 39"), ([3, 9, 3], "3. are named twice")],
)
def test_features_that_there_are_not_are_refused_before_any_pass(features: list[int], said: str):
    made, passes = DictionaryModule(random_dictionary()), list[object]()
    gpt = LoadedModel(module=tiny_gpt(), name="tiny")
    gpt.module.register_forward_hook(noting(passes))
    for call in (
        lambda: token_effects(made, gpt, IDS, features, site=SITE),
        lambda: shifts(made, gpt, IDS, features, norm=1.0, site=SITE),
    ):
        with pytest.raises(InvalidInput, match=said):
            call()
    assert not passes
