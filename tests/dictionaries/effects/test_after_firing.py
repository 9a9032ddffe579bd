"""Steering raises what follows where a feature fires."""

import numpy as np
import pytest
import torch
from tests.dictionaries.effects.classes import FOLLOW, SITE, TOKENS, dictionary, model, texts

from isogloss.dictionaries import find_firings, steered_followers
from isogloss.dictionaries.effects.after_firing import beyond_the_token, followers
from isogloss.dictionaries.effects.firings import Firings
from isogloss.errors import InvalidInput


def test_classes_are_beyond_the_token_and_tokens_are_not():
    found = find_firings(dictionary(), model(), texts(), site=SITE)
    assert beyond_the_token(found) == [TOKENS, TOKENS + 1, TOKENS + 2, TOKENS + 3]
    for one, some in enumerate(FOLLOW):
        assert set(followers(found, TOKENS + one)) >= set(some.tolist())


def fired(
    ids: torch.Tensor, text: list[int], position: list[int], value: list[float] | None = None
) -> Firings:
    """One feature that fires on some tokens."""
    at = np.array([text, position], np.int64)
    return Firings(
        ids=ids,
        skipped=0,
        text=at[0],
        position=at[1],
        feature=np.zeros(len(text), np.int64),
        value=np.array(value or [1.0] * len(text), np.float32),
        features=1,
        norm=1.0,
    )


def test_what_follows_for_certain_comes_before_what_follows_everything():
    draw = np.random.default_rng(0)
    ids = draw.choice(40, (200, 50), p=[0.5] + [0.5 / 39] * 39)
    at = [(text, int(place)) for text in range(200) for place in draw.choice(49, 2, replace=False)]
    for number, (text, place) in enumerate(at):  # 7 after a third of the firings, and 0 as often
        if number % 3 < 2:
            ids[text, place + 1] = 7 if number % 3 else 0
    of_text, places = map(list, zip(*at, strict=True))
    found = fired(torch.from_numpy(ids), of_text, places)
    assert followers(found, 0)[0] == 7
    assert set(followers(found, 0)) <= {7, 0}


def test_what_follows_weak_firings_is_no_follower():
    draw = np.random.default_rng(0)
    ids = draw.integers(10, 50, (100, 40))
    at = [(text, place) for text in range(100) for place in (5, 20)]
    strong = [number % 2 == 0 for number in range(200)]
    for (text, place), is_strong in zip(at, strong, strict=True):
        ids[text, place + 1] = 7 if is_strong else 8
    of_text, places = map(list, zip(*at, strict=True))
    found = fired(torch.from_numpy(ids), of_text, places, [1.0 + one for one in strong])
    assert followers(found, 0) == (7,)
    assert set(followers(found, 0, share=1.0)) == {7, 8}


def test_what_follows_by_chance_is_not_over_represented():
    false = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        ids = torch.from_numpy(draw.integers(0, 60, (60, 40)))
        at = draw.integers(0, [[60], [39]], (2, 150))
        false += bool(followers(fired(ids, *at.tolist()), 0, level=0.05))
    assert false <= 18  # of 200 at level .05: more than 18 by chance one time in 100


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
