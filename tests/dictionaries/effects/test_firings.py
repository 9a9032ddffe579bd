"""Where features fire on texts, and which are alike."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.dictionaries.effects.classes import CLASSES, SITE, TOKENS, dictionary, model, texts
from tests.dictionaries.live.planted import random_dictionary
from tests.dictionaries.live.tiny_gpt import SITE as GPT_SITE
from tests.dictionaries.live.tiny_gpt import tiny_gpt
from tests.dictionaries.passport.passports import passport_of

from isogloss.dictionaries import (
    DictionaryModule,
    feature_circuit,
    feature_effect,
    find_firings,
    loss_recovered,
    repeat_features,
    steered_followers,
    token_effects,
)
from isogloss.dictionaries.effects.firings import alike, site_of
from isogloss.dictionaries.effects.shifts import shifts
from isogloss.errors import InvalidInput, PassportRefused, UnknownSite
from isogloss.models import LoadedModel, TextPairs


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


def test_a_pass_ends_behind_the_site():
    gpt = tiny_gpt()
    behind: list[int] = []
    head = gpt.get_submodule("lm_head")
    head.register_forward_pre_hook(lambda module, given: behind.append(len(given)))
    made = DictionaryModule(random_dictionary("jumprelu"))
    ids = torch.arange(40).reshape(5, 8) % 24
    find_firings(made, LoadedModel(module=gpt, name="tiny"), ids, site="transformer.h.0")
    assert len(behind) == 1  # the first pass counts how often the site is reached


def test_many_entries_are_the_same_as_those_of_each_text(monkeypatch: pytest.MonkeyPatch):
    ids = texts(30)
    one_by_one = [find_firings(dictionary(), model(), text[None], site=SITE) for text in ids]
    monkeypatch.setattr("isogloss.dictionaries.effects.firings._FIRST", 3)  # grows some ten times
    found = find_firings(dictionary(), model(), ids, site=SITE)
    for name in ("position", "feature", "value"):
        wanted = np.concatenate([getattr(one, name) for one in one_by_one])
        assert np.array_equal(getattr(found, name), wanted)
    wanted = np.repeat(np.arange(30), [len(one.text) for one in one_by_one])
    assert np.array_equal(found.text, wanted)


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


def of_training(**known: object) -> DictionaryModule:
    made = random_dictionary()
    return DictionaryModule(made, passport_of(made, **known))


def pairs() -> TextPairs:
    clean = torch.tensor([[5, 8, 13, 21]])
    corrupt = torch.tensor([[5, 9, 13, 21]])
    return TextPairs(
        clean=clean, corrupt=corrupt, right=((7,),), wrong=((9,),), tokens=("a", "b", "c", "d")
    )


Call = Callable[[DictionaryModule, LoadedModel, torch.Tensor, str | None], object]
EFFECTS: dict[str, Call] = {
    "find_firings": lambda d, m, ids, site: find_firings(d, m, ids, site=site),
    "token_effects": lambda d, m, ids, site: token_effects(d, m, ids, [1], site=site),
    "feature_effect": lambda d, m, ids, site: feature_effect(d, m, ids, 1, site=site),
    "loss_recovered": lambda d, m, ids, site: loss_recovered(d, m, ids, site=site),
    "steered_followers": lambda d, m, ids, site: steered_followers(d, m, ids, ids, site=site),
    "repeat_features": lambda d, m, ids, site: repeat_features(d, m, ids, site=site),
    "shifts": lambda d, m, ids, site: shifts(d, m, ids, [1], norm=1.0, site=site),
    "feature_circuit": lambda d, m, ids, site: feature_circuit(
        m, replace(pairs(), clean=ids, corrupt=ids.flip(1)), {site or GPT_SITE: d}
    ),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_bad_input_is_refused_before_any_pass(name: str):
    passes: list[object] = []
    call, gpt = EFFECTS[name], LoadedModel(module=_watched(passes), name="tiny")
    ids = torch.arange(8).reshape(1, 8)
    with pytest.raises(PassportRefused, match="site"):
        call(of_training(), gpt, ids, "transformer.h.1")  # the dictionary is of another site
    with pytest.raises(PassportRefused, match="model"):
        call(of_training(), LoadedModel(module=_watched(passes, seed=5), name="other"), ids, None)
    with pytest.raises(UnknownSite, match="nearest"):
        call(of_training(), gpt, ids, "transformer.h.7")
    with pytest.raises(InvalidInput, match="40 tokens, the model reads 32"):
        call(of_training(), gpt, torch.arange(40).reshape(1, 40), None)
    for odd in (ids + 43, ids - 1):  # the model has 50
        with pytest.raises(InvalidInput, match="is not in the model's table of"):
            call(of_training(), gpt, odd, None)
    transcoder = DictionaryModule(random_dictionary(transcodes=True))
    with pytest.raises(InvalidInput, match="reads and writes one site"):
        call(transcoder, gpt, ids, GPT_SITE)
    assert not passes


def _watched(passes: list[object], seed: int = 0) -> torch.nn.Module:
    """A tiny model that notes each of its passes."""

    def note(module: torch.nn.Module, given: object) -> None:
        passes.append(given)

    made = tiny_gpt(seed)
    made.register_forward_pre_hook(note)
    return made


@pytest.mark.parametrize("name", EFFECTS)
def test_activations_that_are_not_finite_are_refused_and_no_hook_stays(name: str):
    gpt = LoadedModel(module=tiny_gpt(), name="tiny")
    with torch.no_grad():
        gpt.module.get_parameter("transformer.h.0.mlp.c_proj.bias")[0] = torch.nan
    ids = torch.tensor([[1, 2, 3, 1, 2, 3, 1, 2]])
    with pytest.raises(InvalidInput, match=r"finite|nan"):
        EFFECTS[name](DictionaryModule(random_dictionary()), gpt, ids, GPT_SITE)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in gpt.module.modules())
