"""Features of second copies."""

from functools import cache

import pytest
import torch
from replications import induction
from tests.dictionaries.effects.classes import SITE, TOKENS, dictionary, model, noting
from torch import Tensor, nn

from isogloss.dictionaries import (
    DictionaryModule,
    DictionaryProvenance,
    SparseDictionary,
    repeat_features,
)
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel


class Repeats(nn.Module):
    """Writes 1 to one column where the token stood before, and 1 to its own column."""

    def __init__(self) -> None:
        super().__init__()
        self.config = induction.Config()
        self.site = nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        own = nn.functional.one_hot(ids, induction.TOKENS).float()
        was = (own.cumsum(1) - own).gather(-1, ids[..., None]).clamp(max=1)
        return self.site(torch.cat([own, was], -1))


@cache
def features() -> DictionaryModule:
    width = induction.TOKENS + 1
    tensors = {
        "encoder": torch.eye(width), "encoder_bias": torch.zeros(width),
        "decoder": torch.eye(width), "decoder_bias": torch.zeros(width),
    }  # fmt: skip
    made = SparseDictionary.make(
        "topk", {"features": width, "k": 2}, tensors, DictionaryProvenance(), wiring="sae"
    )
    return DictionaryModule(made)


def test_the_feature_of_second_copies_comes_first_and_those_of_tokens_do_not_differ():
    ids = torch.stack([torch.randperm(induction.TOKENS)[:18].repeat(2) for _ in range(6)])
    found = repeat_features(features(), LoadedModel(module=Repeats(), name="r"), ids, site="site")
    best, *others = found
    assert (best.feature, best.first, best.second) == (induction.TOKENS, 0.0, 1.0)
    assert best.p < 1e-6
    assert all(one.first == one.second and one.p == 1 for one in others)
    drawn = repeat_features(
        features(), LoadedModel(module=Repeats(), name="r"), _short(), site="site"
    )
    assert drawn[0].feature == induction.TOKENS


def _short() -> Tensor:
    return induction.repeats(torch.Generator().manual_seed(0), 8)[0]


def test_texts_that_do_not_repeat_are_refused_before_any_pass():
    passes: list[object] = []
    handle = model().module.register_forward_hook(noting(passes))
    try:
        with pytest.raises(InvalidInput, match="no text repeats whole"):
            repeat_features(dictionary(), model(), torch.arange(TOKENS)[None], site=SITE)
        assert not passes
    finally:
        handle.remove()
