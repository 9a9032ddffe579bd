"""Ancestry and relatedness."""

import copy
import json
from typing import cast

import pytest
import torch
from tests.models.conftest import wordpiece
from torch import nn
from transformers import BertConfig, BertModel

from isogloss.errors import InvalidInput, UnsupportedVersion
from isogloss.models import ancestry, load_model, relatedness


def bert(seed: int, width: int = 32, layers: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=200, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=40,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False)


def table(module: nn.Module) -> nn.Embedding:
    return cast("BertModel", module).get_input_embeddings()


def moved(module: nn.Module, noise: float) -> nn.Module:
    """Train-like movement: noise of the given size relative to each weight's own."""
    other = copy.deepcopy(module)
    torch.manual_seed(99)
    with torch.no_grad():
        for parameter in other.parameters():
            scale = parameter.std() if parameter.numel() > 1 else parameter.abs().mean()
            parameter += noise * scale * torch.randn_like(parameter)
    return other


def test_a_fine_tuned_copy_is_related_and_an_independent_model_is_not():
    tokenizer = wordpiece()
    prints = [ancestry(m, tokenizer) for m in (bert(0), moved(bert(0), 0.7), bert(1))]
    tuned, independent = relatedness(prints[0], prints[1]), relatedness(prints[0], prints[2])
    assert tuned.related
    assert tuned.similarity > 0.7
    assert "embeddings" in tuned.why
    assert not independent.related
    assert abs(independent.similarity) < 0.3


def test_shared_weights_are_seen_where_the_embeddings_differ():
    one, other = bert(0), moved(bert(0), 0.5)
    table(other).reset_parameters()
    found = relatedness(ancestry(one, wordpiece()), ancestry(other, wordpiece()))
    assert found.related
    assert found.similarity > 0.7
    assert "cosine of weights" in found.why


def test_a_model_pruned_to_fewer_dimensions_is_seen_by_its_words_cosines():
    wide, narrow, other = bert(0, width=64), bert(5, width=60), bert(6, width=60)
    with torch.no_grad():
        table(narrow).weight.copy_(table(wide).weight[:, :60])
    prints = [ancestry(m, wordpiece()) for m in (wide, narrow, other)]
    assert relatedness(prints[0], prints[1]).related
    assert relatedness(prints[0], prints[1]).similarity > 0.9
    assert not relatedness(prints[0], prints[2]).related


def test_plain_modules_are_compared_by_ids_and_weights():
    def plain(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 32), nn.Linear(32, 16))

    assert relatedness(ancestry(plain(0)), ancestry(moved(plain(0), 0.3))).related
    assert not relatedness(ancestry(plain(0)), ancestry(plain(1))).related


def test_models_with_nothing_in_common_are_not_related_and_it_is_said_why():
    found = relatedness(ancestry(nn.Linear(8, 9)), ancestry(bert(0), wordpiece()))
    assert (found.related, found.similarity) == (False, 0.0)
    assert "nothing to compare" in found.why
    assert "no fingerprint" in relatedness({}, ancestry(bert(0))).why


def test_a_fingerprint_is_small_json_and_the_same_each_time():
    torch.manual_seed(0)
    big = BertModel(
        BertConfig(vocab_size=5000, hidden_size=1024, num_hidden_layers=12, num_attention_heads=4,
                   intermediate_size=64, max_position_embeddings=8),
        add_pooling_layer=False,
    )  # fmt: skip
    text = json.dumps(ancestry(big))
    assert len(text) < 100_000
    assert json.dumps(ancestry(big)) == text
    assert relatedness(json.loads(text), json.loads(text)).similarity > 0.99


def test_a_fingerprint_of_another_version_or_kind_is_refused():
    good = ancestry(bert(0), wordpiece())
    with pytest.raises(UnsupportedVersion, match="version 2, wanted 1"):
        relatedness({**good, "version": 2}, good)
    for broken in (
        {"embedding": "%%"},
        {"tokens": 3},
        {"matrices": [{}]},
        {"token_cosines": "AAAA"},
    ):
        with pytest.raises(InvalidInput, match="not an ancestry fingerprint"):
            relatedness(good, {**good, **broken})


@pytest.mark.slow
def test_the_real_models_relations_are_found():
    names = ("packaged:minilm-l6", "packaged:paraphrase-minilm-l3", "packaged:mpnet-base")
    prints = []
    for name in names:
        model = load_model(name)
        prints.append(ancestry(model.module, model.tokenizer))
        assert len(json.dumps(prints[-1])) < 100_000
    family = relatedness(prints[0], prints[1])
    assert family.related
    assert family.similarity == pytest.approx(0.885, abs=0.02)
    for one in prints[:2]:
        stranger = relatedness(one, prints[2])
        assert not stranger.related
        assert 0.45 < stranger.similarity < 0.6


def test_a_wrapped_model_has_the_fingerprint_of_the_bare_one_and_weights_elsewhere_have_none():
    model = torch.nn.Sequential(torch.nn.Embedding(40, 16), torch.nn.Linear(16, 16))
    compiled = cast("torch.nn.Module", torch.compile(model, backend="eager"))
    assert ancestry(compiled) == ancestry(model)
    elsewhere = ancestry(model.to("meta"))
    assert (elsewhere["tokens"], elsewhere["matrices"]) == ([], [])
