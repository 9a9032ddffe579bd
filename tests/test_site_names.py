"""A store and a live model agree on which names are of one site."""

from itertools import combinations, product

import pytest
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from isogloss.models import find_sites, is_site_of
from isogloss.models.sites import base_prefix, paths
from isogloss.site_names import is_same_site, without_prefix, without_wrappers


def with_heads() -> list[nn.Module]:
    """Models that hold their base under four names, and one that has none."""
    return [
        BertForMaskedLM(
            BertConfig(
                vocab_size=12,
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=8,
            )
        ),
        GPT2LMHeadModel(GPT2Config(vocab_size=12, n_embd=8, n_layer=2, n_head=2)),
        GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=12,
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=8,
            )
        ),
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=12,
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=8,
            )
        ),
        T5ForConditionalGeneration(
            T5Config(vocab_size=12, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2)
        ),
    ]


class Held(nn.Module):
    """Holds its base model under a place that is elsewhere one beside others."""

    base_model_prefix = "encoder"

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])})
        self.head = nn.Linear(2, 2)


class Sides(nn.Module):
    """Has a module of one name at two places, as no prefix makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.ModuleDict({"linear": nn.Linear(2, 2)})
        self.linear = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ("layers.3", "model.layers.3", True),
        ("h.3", "transformer.h.3", True),
        ("module.blocks.3.hook_out", "blocks.3.hook_out", True),
        ("module._orig_mod.layers.3", "model.layers.3", True),
        ("_orig_mod.model.layers.3", "module.layers.3", True),
        ("norm", "model.norm", True),
        ("layers.3", "layers.3", True),
        ("layers.3", "model.layers.33", False),
        ("layers.3", "encoder.layers.3", False),
        ("layers.3", "decoder.layers.3", False),
        ("layers.3", "vision_model.layers.3", False),
        ("model.layers.3", "transformer.layers.3", False),
        ("3", "layers.3", False),
        ("mlp", "layers.3.mlp", False),
        ("", "layers.", False),
    ],
)
def test_a_prefix_of_a_model_makes_no_other_site(one: str, other: str, wanted: bool) -> None:
    assert is_same_site(one, other) is wanted
    assert is_same_site(other, one) is wanted


@pytest.mark.parametrize("model", with_heads(), ids=lambda model: type(model).__name__)
def test_what_a_model_finds_under_a_name_is_one_site_to_a_store(model: nn.Module) -> None:
    assert isinstance(model, nn.Module)
    prefix, before = base_prefix(model), ("", "module.", "_orig_mod.module.")
    base = model if not hasattr(model, prefix) else model.get_submodule(prefix)
    assert len(paths(model)) > 20
    for path, wrapper in product(paths(model), before):
        for name in {path, without_prefix(path, prefix)}:
            found = find_sites(model, [f"{wrapper}{name}"])
            assert found == (path,)
            assert is_same_site(f"{wrapper}{name}", path)
            assert is_site_of(model, f"{wrapper}{name}", path)
    for path in paths(base):  # as a recording of the base model, and the other way round
        (whole,) = find_sites(model, [path])
        assert is_same_site(path, whole)
        assert is_site_of(base, path, whole)
        assert find_sites(base, [whole]) == (path,)


@pytest.mark.parametrize("model", with_heads(), ids=lambda model: type(model).__name__)
def test_two_places_of_a_model_are_one_site_to_nobody(model: nn.Module) -> None:
    for one, other in combinations(paths(model), 2):
        assert not is_same_site(one, other), (one, other)
        assert not is_site_of(model, one, other)


def test_only_a_live_model_knows_that_its_base_is_held_under_an_encoder() -> None:
    model = Held()
    assert find_sites(model, ["layers.0"]) == ("encoder.layers.0",)
    assert is_site_of(model, "layers.0", "encoder.layers.0")
    assert is_same_site("layers.0", "encoder.layers.0", "encoder")
    assert not is_same_site("layers.0", "encoder.layers.0")


def test_what_a_live_model_has_under_both_names_is_two_sites() -> None:
    model = Sides()
    assert is_same_site("left.linear", "linear")  # by the names alone one could be the other
    assert not is_site_of(model, "left.linear", "linear")
    assert is_site_of(model, "linear", "model.linear")


def test_components_of_wrappers_and_prefixes_are_taken_away() -> None:
    assert without_wrappers("_orig_mod.module.layers.0") == "layers.0"
    assert without_wrappers("module") == "module"
    assert without_wrappers("layers.module.0") == "layers.module.0"
    assert without_prefix("gpt_neox.layers.0", "gpt_neox") == "layers.0"
    assert without_prefix("layers.0", "gpt_neox") == "layers.0"
    assert without_prefix(".layers.0", "") == ".layers.0"
