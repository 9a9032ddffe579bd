"""Where features fire on texts, and which are alike."""

import numpy as np
import pytest
import torch
from tests.dictionaries.effects.classes import CLASSES, SITE, TOKENS, dictionary, model, texts
from tests.dictionaries.live.planted import random_dictionary
from tests.dictionaries.live.tiny_gpt import tiny_gpt

from isogloss.dictionaries import DictionaryModule, find_firings
from isogloss.dictionaries.effects.firings import alike, site_of
from isogloss.errors import InvalidInput, UnknownSite
from isogloss.models import LoadedModel


def test_a_feature_fires_where_its_token_or_the_class_before_stands():
    ids = texts(8)
    found = find_firings(dictionary(), model(), ids, site=SITE)
    counts = found.counts()
    assert np.array_equal(counts[:TOKENS], torch.bincount(ids.ravel(), minlength=TOKENS).numpy())
    before = torch.bincount((ids[:, :-1] % CLASSES).ravel(), minlength=CLASSES)
    assert np.array_equal(counts[TOKENS:], before.numpy())
    assert set(found.means()[counts > 0]) == {1.0}
    assert found.norm == pytest.approx(2**0.5)
    at = found.feature == TOKENS
    assert (ids[found.text[at], found.position[at] - 1] % CLASSES == 0).all()


def test_codes_are_those_of_the_activations_at_the_site():
    gpt = tiny_gpt()
    made = DictionaryModule(random_dictionary("jumprelu"))
    ids = torch.arange(24).reshape(3, 8)
    found = find_firings(made, LoadedModel(module=gpt, name="tiny"), ids, site="transformer.h.0")
    with torch.no_grad():
        dense = made.dense(gpt(ids, output_hidden_states=True).hidden_states[1])
    again = torch.zeros_like(dense)
    again[found.text, found.position, found.feature] = torch.from_numpy(found.value)
    torch.testing.assert_close(again, dense)


def test_like_features_fire_about_as_often():
    found = find_firings(dictionary(), model(), texts(), site=SITE)
    norms = np.ones(TOKENS + CLASSES)
    own = int(found.counts()[:TOKENS].argmax())
    near = alike(found, norms, own, 3, seed=0)
    assert own not in near
    assert len(set(near.tolist())) == 3
    order = np.argsort(np.abs(np.log(found.counts() / found.counts()[own])))
    assert set(near.tolist()) <= set(order[1:14].tolist())
    assert not np.array_equal(near, alike(found, norms, own, 3, seed=1))


def test_dictionaries_of_several_sites_and_unknown_sites_are_refused():
    transcoder = DictionaryModule(random_dictionary(transcodes=True))
    with pytest.raises(InvalidInput, match="reads and writes one site"):
        site_of(transcoder, model(), None)
    with pytest.raises(InvalidInput, match="give site="):
        site_of(dictionary(), model(), None)
    with pytest.raises(UnknownSite):
        site_of(dictionary(), model(), "layers.9")
    with pytest.raises(InvalidInput, match="2 of content"):
        find_firings(dictionary(), model(), torch.zeros(3, 1, dtype=torch.int64), site=SITE)
