"""A small causal model of Hugging Face whose layers are as wide as the planted dictionaries."""

from collections.abc import Callable
from typing import cast

import torch
from tests.dictionaries.live.planted import WIDTH
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

SITE = "transformer.h.0"
IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


def tiny_gpt(seed: int = 0, *, layers: int = 2) -> nn.Module:
    """A model of random weights, norms included."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=50, n_positions=32, n_embd=WIDTH, n_layer=layers, n_head=4, bos_token_id=0,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def generate(model: nn.Module, ids: Tensor, tokens: int) -> Tensor:
    """The likeliest next tokens, by the model's own generation."""
    call = cast("Callable[..., Tensor]", getattr(model, "generate"))  # noqa: B009 - it has no type
    return call(ids, max_new_tokens=tokens, do_sample=False)
