"""Tiny random models of every text architecture of transformers. Does not import isogloss."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

VOCABULARY = 97
FAMILIES = (
    "albert", "bart", "bert", "bloom", "deberta", "deberta-v2", "distilbert", "electra", "falcon",
    "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mamba",
    "mistral", "mixtral", "modernbert", "mpnet", "olmo2", "opt", "phi", "phi3", "qwen2", "qwen3",
    "roberta", "stablelm", "t5", "xlnet",
)  # fmt: skip
"""Families of which every one must be recorded: those that people use most."""

_HEADS = (
    "CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "TEXT_ENCODING", "SEQUENCE_CLASSIFICATION",
    "TOKEN_CLASSIFICATION", "QUESTION_ANSWERING",
)  # fmt: skip
_OTHER_INPUTS = ("vision", "audio", "image", "speech", "code_predictor", "bbox", "depth")
_SIZES: Mapping[str, int] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size"), 32),
    **dict.fromkeys(("embedding_dim", "ffn_hidden_size", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_encoder_layers",), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_dim", "d_head", "kv_channels"), 8),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "dff", "hidden_dim", "d_inner"), 48),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "dim_ff", "intermediate_size_mlp"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("shared_intermediate_size", "shared_experts_intermediate_size"), 16),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "index_n_heads", "index_topk"), 4),
    **dict.fromkeys(("qk_nope_head_dim", "v_head_dim", "index_head_dim"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 64),
    **dict.fromkeys(("state_size", "mamba_d_state", "time_step_rank", "mamba_dt_rank"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 2),
    **dict.fromkeys(("vocab_size_per_layer_input", "src_vocab_size", "tgt_vocab_size"), VOCABULARY),
    **dict.fromkeys(("hidden_size_per_layer_input", "laurel_rank"), 8),
    **dict.fromkeys(("sliding_window", "attention_window", "local_attention"), 16),
    "vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "sep_token_id": 2, "cls_token_id": 1, "mask_token_id": 3, "decoder_start_token_id": 1,
    "rotary_dim": 4, "qk_head_dim": 12, "type_vocab_size": 2, "num_hidden_groups": 1,
}  # fmt: skip
_MOST_PARAMETERS = 5_000_000
_FOUR_LAYERS: Mapping[str, object] = {"num_hidden_layers": 4}  # of which the last is full attention
_HYBRIDS = (
    "bailing_hybrid", "lfm3", "kimi_linear", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next",
    "qwen4_exp_text", "recurrent_gemma",
)  # fmt: skip
_EXCEPTIONS: Mapping[str, Mapping[str, object]] = {
    **dict.fromkeys(_HYBRIDS, _FOUR_LAYERS),
    "bamba": {
        "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "attn_layer_indices": [1],
    },
    "dots1": {"n_shared_experts": 1},
    "funnel": {"block_sizes": [2], "num_decoder_layers": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {
        "mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["mamba", "attention"],
    },
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "reformer": {
        "axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8), "attn_layers": ["local", "lsh"],
        "attention_head_size": 8, "feed_forward_size": 48,
    },
    "roc_bert": {"pronunciation_vocab_size": 9, "shape_vocab_size": 9},
}  # fmt: skip
"""What single architectures want beside or instead of those sizes."""


_SITES = {"albert": "encoder"}  # whose layers are one, called again and again


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A tiny model with random weights, and where to look into it."""

    module: PreTrainedModel
    """The base model in evaluation mode; of an encoder-decoder all of it."""
    site: str
    """Path of its last layer; of an encoder-decoder, of the encoder's last one."""
    decoder_site: str | None
    """Path of the decoder's last layer; None: the model is no encoder-decoder."""


class NotBuilt(Exception):
    """No tiny model can be made, with the reason."""


def text_architectures() -> tuple[str, ...]:
    """Return the model types with a base model and a head for text, in the order of names."""
    named: set[str] = set()
    for head in _HEADS:
        named |= set(getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING_NAMES"))
    return tuple(sorted(named & set(modeling_auto.MODEL_MAPPING_NAMES)))


def tiny_model(name: str, dtype: torch.dtype = torch.float32) -> TinyModel:
    """Build a model of an architecture with two layers of width 32; the seed is always the same.

    Raises:
        NotBuilt: transformers cannot build it from such a configuration, or it reads more than
            text.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = _build(name)
    except NotBuilt:
        raise
    except Exception as error:
        raise NotBuilt(f"{type(error).__name__}: {str(error).splitlines()[0][:120]}") from error
    if module.main_input_name != "input_ids":
        raise NotBuilt(f"its main input is {module.main_input_name}, not token ids")
    cast("nn.Module", module.eval()).to(dtype)
    if not module.config.is_encoder_decoder:
        site = _SITES.get(name) or _last_layer(module, "")
        return TinyModel(module=module, site=site, decoder_site=None)
    return TinyModel(
        module=module,
        site=_last_layer(module, "encoder"),
        decoder_site=_last_layer(module, "decoder"),
    )


def tiny_config(name: str) -> PreTrainedConfig:
    """Return an architecture's configuration with every size it has made small."""
    kind = CONFIG_MAPPING[name]
    default = kind()
    parts = [part for part in getattr(kind, "sub_configs", {}) if part != "text_config"]
    if found := [part for part in parts if any(word in part for word in _OTHER_INPUTS)]:
        raise NotBuilt(f"it reads more than text ({', '.join(found)})")
    sizes: dict[str, object] = {
        key: value for key, value in _SIZES.items() if _is_number(default, key)
    }
    if "kv_lora_rank" in sizes:  # latent attention: keys and values of each head are made anew
        sizes |= {"head_dim": sizes["qk_rope_head_dim"], "num_key_value_heads": 4}
    sizes |= _EXCEPTIONS.get(name, {})
    make = cast("Callable[..., PreTrainedConfig]", kind)  # each kind takes fields of its own
    return make(**sizes)


def _is_number(config: PreTrainedConfig, key: str) -> bool:
    known = {*vars(config), *getattr(type(config), "attribute_map", {})}
    if key not in known:
        return False
    try:
        value: object = getattr(config, key)
    except AttributeError:  # it varies from layer to layer
        return False
    return isinstance(value, int | None) and not isinstance(value, bool)


def _build(name: str) -> PreTrainedModel:
    config = tiny_config(name)
    kind = cast("type[PreTrainedModel]", MODEL_MAPPING[type(config)])
    pooler = "add_pooling_layer" in inspect.signature(kind).parameters
    make = partial(kind, config, add_pooling_layer=False) if pooler else partial(kind, config)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in make().parameters())
    if count > _MOST_PARAMETERS:
        raise NotBuilt(f"it has {count:,} parameters in sizes that no argument makes smaller")
    torch.manual_seed(0)
    return make()


def _last_layer(module: nn.Module, part: str) -> str:
    """Return the path of the last module in the list of layers that stands highest in the model."""
    lists = [
        (path.count("."), -len(found), path)
        for path, found in module.named_modules(remove_duplicate=False)
        if isinstance(found, nn.ModuleList) and len(found) and part in path
    ]
    if not lists:
        raise NotBuilt("it has no list of layers")
    _, minus_length, path = min(lists)
    return f"{path}.{-minus_length - 1}"
