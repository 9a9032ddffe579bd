"""Next tokens under an added direction."""

import pytest
import torch
from tests.dictionaries.effects.classes import FOLLOW, SITE, TOKENS, dictionary, model, texts
from tests.dictionaries.live.planted import random_dictionary
from tests.dictionaries.live.tiny_gpt import tiny_gpt

from isogloss.dictionaries import DictionaryModule
from isogloss.dictionaries.effects.shifts import shifts
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel


def test_a_class_raises_what_follows_it_and_a_token_raises_nothing():
    found = shifts(dictionary(), model(), texts(4), [TOKENS + 1, 7], norm=2.0, site=SITE)
    assert found.shape == (2, TOKENS)
    assert set(found[0].topk(3).indices.tolist()) == set(FOLLOW[1].tolist())
    torch.testing.assert_close(found[1], torch.zeros(TOKENS))


def test_the_shift_is_the_mean_over_tokens_of_the_change_of_log_probabilities():
    ids, module = texts(2), model().module
    found = shifts(dictionary(), model(), ids, [TOKENS], norm=3.0, site=SITE)[0]
    with torch.no_grad():
        x = module.mix(module.embed(ids))  # pyright: ignore[reportCallIssue] (a toy's own parts)
        more = x.clone()
        more[..., TOKENS] += 3.0
        logs = [torch.log_softmax(module.unembed(one), -1) for one in (x, more)]  # pyright: ignore[reportCallIssue] (a toy's own parts)
    torch.testing.assert_close(found, (logs[1] - logs[0]).mean((0, 1)))


def test_behind_the_last_layer_the_direct_effect_is_the_measured_one():
    gpt = LoadedModel(module=tiny_gpt(), name="tiny")
    made, ids = DictionaryModule(random_dictionary()), torch.arange(16).reshape(2, 8)
    at_end, direct = (
        shifts(made, gpt, ids, [3], norm=1.0, site="transformer.h.1", direct=way)
        for way in (False, True)
    )
    torch.testing.assert_close(at_end, direct)
    early = shifts(made, gpt, ids, [3], norm=1.0, site="transformer.h.0")
    assert not torch.allclose(early, direct, atol=1e-3)


def test_features_that_there_are_not_and_no_norm_are_refused():
    for features, norm, said in (([44], 1.0, "0 to 43"), ([], 1.0, "0 to 43"), ([1], 0.0, "above")):
        with pytest.raises(InvalidInput, match=said):
            shifts(dictionary(), model(), texts(2), features, norm=norm, site=SITE)
