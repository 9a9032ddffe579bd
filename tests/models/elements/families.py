"""A tiny random model of each family whose heads are found in its own way."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

NO_ENDS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
LLAMA: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, **NO_ENDS,
}  # fmt: skip
BERT: dict[str, Any] = {**LLAMA, "pad_token_id": 0}
SHARED: dict[str, Any] = {**LLAMA, "num_key_value_heads": 2}
GPT2: dict[str, Any] = {
    "vocab_size": 50,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
    **NO_ENDS,
}

FAMILIES: Mapping[str, Callable[[], Any]] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHARED)),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**LLAMA)),
    "bert": lambda: BertModel(BertConfig(**BERT)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SHARED, head_dim=16)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SHARED)),
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=32, n_layer=2,
                                                  n_head=4, **NO_ENDS)),
    "gpt_oss": lambda: GptOssForCausalLM(GptOssConfig(**SHARED, head_dim=8, num_local_experts=2,
                                                      num_experts_per_tok=1)),
    "t5": lambda: T5EncoderModel(T5Config(vocab_size=50, d_model=32, num_layers=2, num_heads=4,
                                          d_kv=8, d_ff=48)),
}  # fmt: skip

IDS = torch.tensor([[5, 8, 13, 21, 34, 3, 1], [4, 2, 7, 18, 28, 6, 9]])


@cache
def family(name: str) -> Any:
    """Make the model of a family once, with weights large enough that patterns differ."""
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.ndim > 1 else 1)
    return model


def own_patterns(model: Any) -> tuple[Tensor, ...]:
    """Return the patterns that a model of transformers gives by itself, of each layer."""
    config = model.config
    was = config._attn_implementation
    try:
        config._attn_implementation = "eager"
        with torch.no_grad():
            return model(IDS, output_attentions=True).attentions
    finally:
        config._attn_implementation = was
