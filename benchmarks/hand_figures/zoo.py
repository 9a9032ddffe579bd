"""Small causal models of three families, and dictionaries with passports for their sites."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from hand_figures.planted import random_dictionary
from isogloss.dictionaries import DictionaryModule, Passport, SparseDictionary
from isogloss.dictionaries.passport.passport import activation_of, tensor_samples
from isogloss.models import weight_sketch

WIDTH, LAYERS, BEGIN = 32, 4, 1
TEXT = torch.tensor([[BEGIN, 7, 9, 30, 12, 5], [BEGIN, 40, 3, 3, 22, 8]])
"""Two texts behind the token with which they begin."""
KINDS = ("topk", "batch_topk", "jumprelu", "relu_l1")


def _gpt2() -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=64, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=32,
            bos_token_id=BEGIN, eos_token_id=0,
        )
    )  # fmt: skip


def _neox() -> nn.Module:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=64, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=32, bos_token_id=BEGIN, eos_token_id=0,

        )
    )  # fmt: skip


def _llama() -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=32, bos_token_id=BEGIN, eos_token_id=0,

        )
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """An architecture, and how its layers are called."""

    make: Callable[[], nn.Module]
    """Makes a model."""
    layer: str
    """Path of a layer, with a place for its number."""


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "gpt2": Family(make=_gpt2, layer="transformer.h.{}"),
        "neox": Family(make=_neox, layer="gpt_neox.layers.{}"),
        "llama": Family(make=_llama, layer="model.layers.{}"),
    }
)


def model_of(family: str, seed: int, *, attention: str = "eager") -> nn.Module:
    """Return a model of random weights, whose norms are not as they were made."""
    torch.manual_seed(seed)
    model = FAMILIES[family].make().eval()
    cast("Callable[[str], object]", model.set_attn_implementation)(attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A model, and a dictionary that was made for one of its layers."""

    family: str
    """Of the model."""
    model: nn.Module
    """The model."""
    layer: int
    """Number of the layer."""
    dictionary: SparseDictionary
    """The dictionary."""
    passport: Passport
    """Its passport."""

    @property
    def site(self) -> str:
        """Path of the layer."""
        return FAMILIES[self.family].layer.format(self.layer)

    @property
    def module(self) -> DictionaryModule:
        """The dictionary, ready to use."""
        return DictionaryModule(self.dictionary, self.passport)


def case_of(number: int, *, features: int = 2 * WIDTH, kind: str = "") -> Case:
    """Return a case; another number gives another model, layer, dictionary and often kind."""
    family = sorted(FAMILIES)[number % len(FAMILIES)]
    model, layer = model_of(family, number), number % (LAYERS - 1)
    made = random_dictionary(kind or KINDS[number % len(KINDS)], features, WIDTH, number)
    site = FAMILIES[family].layer.format(layer)
    passport = Passport(
        model=f"{family}-{number}",
        weights=weight_sketch(model).to_dict(),
        sites=(site,),
        widths=(WIDTH,),
        norms=(float(rows_at(model, site).norm(dim=-1).median()),),
        dtype="float32",
        begins=str(BEGIN),
        kind=made.kind,
        wiring=made.wiring,
        activation=activation_of(made),
        tensors=tensor_samples(made.tensors),
    )
    return Case(family=family, model=model, layer=layer, dictionary=made, passport=passport)


@torch.no_grad()
def rows_at(model: nn.Module, site: str) -> Tensor:
    """Return what a plain hook sees at a site while the model reads the texts."""
    seen: list[Tensor] = []

    def look(module: nn.Module, args: object, output: object) -> None:
        del module, args
        found = cast("tuple[Tensor, ...]", output)[0] if isinstance(output, tuple) else output
        seen.append(cast("Tensor", found))

    handle = model.get_submodule(site).register_forward_hook(look)
    try:
        model(TEXT)
    finally:
        handle.remove()
    return seen[0].float()


def folded(model: nn.Module) -> nn.Module:
    """Return a model with its norms folded into the weights behind them, as TransformerLens does.

    The logits stay the same; activations within a layer do not.
    """
    made = copy.deepcopy(model)
    with torch.no_grad():
        for layer in _layers(made):
            for norm, behind in _behind(layer):
                gain, shift = norm.get_parameter("weight"), getattr(norm, "bias", None)
                for linear in behind:
                    weight = linear.get_parameter("weight")
                    is_turned = type(linear).__name__ == "Conv1D"  # GPT-2 has [in, out]
                    matrix = weight if is_turned else weight.T
                    if shift is not None and getattr(linear, "bias", None) is not None:
                        linear.get_parameter("bias").add_(shift @ matrix)
                    matrix.mul_(gain[:, None])
                gain.fill_(1.0)
                if shift is not None:
                    shift.fill_(0.0)
    return made


def _layers(model: nn.Module) -> nn.ModuleList:
    return next(found for found in model.modules() if isinstance(found, nn.ModuleList))


def _behind(layer: nn.Module) -> list[tuple[nn.Module, list[nn.Module]]]:
    """Return each norm of a layer, and the linear maps that read what it gives."""
    named = {
        "ln_1": ["attn.c_attn"],
        "ln_2": ["mlp.c_fc"],
        "input_layernorm": [
            "attention.query_key_value", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"
        ],
        "post_attention_layernorm": ["mlp.dense_h_to_4h", "mlp.gate_proj", "mlp.up_proj"],
    }  # fmt: skip
    paths = dict(layer.named_modules())
    return [
        (paths[norm], [paths[path] for path in behind if path in paths])
        for norm, behind in named.items()
        if norm in paths
    ]
