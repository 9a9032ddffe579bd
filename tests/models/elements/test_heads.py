"""The heads of attention modules of many families."""

import pytest
import torch
from tests.models.elements.families import FAMILIES, IDS, family, own_patterns
from torch import nn
from transformers import FalconConfig, FalconForCausalLM

from isogloss.errors import InvalidInput
from isogloss.models import capture
from isogloss.models.elements.heads import attention_below, attentions, heads_of


@pytest.mark.parametrize("name", list(FAMILIES))
def test_patterns_are_those_that_the_model_gives_itself_and_mix_its_values_to_z(name: str):
    model = family(name)
    heads = attentions(model)
    assert [one.count for one in heads] == [4, 4]
    sites = [f"{one.path}.heads.{part}" for one in heads for part in ("v", "z", "pattern")]
    with torch.no_grad(), capture(model, sites) as seen:
        model(IDS)
    own = (None, None) if name == "bloom" else own_patterns(model)  # it gives none
    for one, theirs in zip(heads, own, strict=True):
        pattern = seen[f"{one.path}.heads.pattern"]
        assert pattern.shape == (2, 4, 7, 7)
        assert pattern.std() > 0.01
        if theirs is not None:
            assert torch.equal(pattern, theirs)
        v = seen[f"{one.path}.heads.v"].repeat_interleave(4 // one.key_count, 2)
        mixed = torch.einsum("bhqk,bkhd->bqhd", pattern, v)
        torch.testing.assert_close(seen[f"{one.path}.heads.z"], mixed)


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
def test_queries_and_keys_are_those_of_which_the_pattern_is_made(name: str):
    """Of models that do not rotate them; T5 adds a bias of positions, the same for all texts."""
    model = family(name)
    one = attentions(model)[0]
    sites = [f"{one.path}.heads.{part}" for part in ("q", "k", "pattern")]
    with torch.no_grad(), capture(model, sites) as seen:
        model(IDS)
    q, k, pattern = (seen[site] for site in sites)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / (1 if name == "t5" else 8**0.5)
    bias = pattern[:1].log() - scores[:1] if name == "t5" else torch.zeros(1, 1, 7, 7)
    if name == "gpt2":
        scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(torch.softmax(scores + bias, -1), pattern, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "phi3", "gpt_neox"])
def test_rotation_keeps_the_norm_of_what_the_first_token_is_scored_by(name: str):
    """The first position is not rotated, and looks at itself alone: others rotate by the angle."""
    model = family(name)
    one = attentions(model)[0]
    sites = [f"{one.path}.heads.{part}" for part in ("q", "k", "pattern")]
    with torch.no_grad(), capture(model, sites) as seen:
        model(IDS[:, :1].repeat(1, 2))  # one token twice: equal q and k before the rotation
    q, k, pattern = (seen[site] for site in sites)
    torch.testing.assert_close(q[:, 0], q[:, 1])
    k = k.repeat_interleave(4 // one.key_count, 2)
    same = (q[:, 1] * k[:, 1]).sum(-1) / q.shape[-1] ** 0.5  # no angle between a token and itself
    other = same + (pattern[:, :, 1, 0] / pattern[:, :, 1, 1]).log()
    bound = q[:, 1].norm(dim=-1) * k[:, 0].norm(dim=-1) / q.shape[-1] ** 0.5
    assert (other <= bound + 1e-5).all()
    assert (other != same).all()


def test_heads_that_share_keys_are_counted():
    one = attentions(family("llama"))[1]
    assert (one.path, one.count, one.key_count) == ("model.layers.1.self_attn", 4, 2)
    assert [one.shared(head, "k") for head in range(4)] == [0, 0, 1, 1]
    assert [one.shared(head, "q") for head in range(4)] == [0, 1, 2, 3]


def test_a_layer_means_its_attention_module():
    found = attention_below(family("gpt2"), "transformer.h.1")
    assert found is not None
    assert found.path == "transformer.h.1.attn"
    assert attention_below(family("gpt2"), "transformer.wte") is None
    with pytest.raises(InvalidInput, match=r"2 attention modules.*name one"):
        attention_below(family("gpt2"), "transformer")


def test_a_fused_projection_of_an_unknown_layout_is_refused_by_name():
    model = FalconForCausalLM(
        FalconConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    )
    with pytest.raises(InvalidInput, match=r"query_key_value gives .* is not known"):
        heads_of(model, "transformer.h.0.self_attention")
    assert attentions(model) == ()


def test_no_module_is_taken_for_attention_that_is_not():
    assert heads_of(family("llama"), "model.layers.0.mlp") is None
    assert heads_of(family("llama"), "model.layers.9") is None
    assert attentions(nn.Sequential(nn.Linear(3, 3))) == ()
