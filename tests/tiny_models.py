"""Tiny models with random weights, saved as users have them."""

from pathlib import Path

import torch
from tests.models.conftest import byte_level, wordpiece
from transformers import BertConfig, BertModel, GPTNeoXConfig, GPTNeoXForCausalLM


def save_tiny_bert(folder: Path, *, seed: int, width: int) -> Path:
    """Save a two-layer BERT and its tokenizer to a directory."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(wordpiece()),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(folder)
    wordpiece().save_pretrained(folder)
    return folder


def save_tiny_pythia(folder: Path, *, seed: int, width: int) -> Path:
    """Save a causal model of Pythia's architecture, four layers, and its tokenizer."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=len(byte_level()),
        hidden_size=width,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=24,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    byte_level().save_pretrained(folder)
    return folder
