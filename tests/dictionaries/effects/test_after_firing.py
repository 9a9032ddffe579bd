"""Steering raises what follows where a feature fires."""

import pytest
import torch
from tests.dictionaries.effects.classes import FOLLOW, SITE, TOKENS, dictionary, model, texts

from isogloss.dictionaries import find_firings, steered_followers
from isogloss.dictionaries.effects.after_firing import beyond_the_token, followers
from isogloss.errors import InvalidInput


def test_classes_are_beyond_the_token_and_tokens_are_not():
    found = find_firings(dictionary(), model(), texts(), site=SITE)
    assert beyond_the_token(found) == [TOKENS, TOKENS + 1, TOKENS + 2, TOKENS + 3]
    for one, some in enumerate(FOLLOW):
        assert set(followers(found, TOKENS + one)) >= set(some.tolist())


def test_what_follows_a_class_rises_more_than_under_random_features():
    found = steered_followers(dictionary(), model(), texts(), texts(4, seed=3), site=SITE)
    assert [one.feature for one in found] == [TOKENS, TOKENS + 1, TOKENS + 2, TOKENS + 3]
    for one in found:
        assert one.rise > max(one.null)
        assert len(one.null) > 20
        assert one.p < 0.05


def test_a_dictionary_turned_aside_raises_nothing():
    turned = dictionary()
    with torch.no_grad():
        turned.get_parameter("decoder")[:] = torch.eye(TOKENS + 4).roll(5, 1)
    found = steered_followers(turned, model(), texts(), texts(4, seed=3), site=SITE)
    assert all(one.p > 0.05 for one in found)


def test_texts_on_which_no_feature_is_beyond_the_token_are_refused():
    with pytest.raises(InvalidInput, match="0 features beyond the token"):
        steered_followers(
            dictionary(), model(), torch.zeros(2, 8, dtype=torch.int64), texts(2), site=SITE
        )
    with pytest.raises(InvalidInput, match="wanted above 0"):
        steered_followers(dictionary(), model(), texts(), texts(2), site=SITE, random=0)
