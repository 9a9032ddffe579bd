"""What caches tell."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from transformers import (
    Cache,
    DynamicCache,
    EncoderDecoderCache,
    GPT2Config,
    GPT2LMHeadModel,
    StaticCache,
)

from isogloss.models.passes.caches import cache_mark, cached_tokens

IDS = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])


def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("kind", ["dynamic", "static", "encoder-decoder"])
def test_a_cache_tells_its_length_and_marks_each_sequence(kind: str):
    gpt2 = model()
    caches: dict[str, Cache] = {
        "dynamic": DynamicCache(config=gpt2.config),
        "static": StaticCache(config=gpt2.config, max_cache_len=16),
        "encoder-decoder": EncoderDecoderCache(DynamicCache(), DynamicCache()),
    }
    cache = caches[kind]
    inner = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
    assert cached_tokens(cache) == 0
    assert cache_mark(cache, 0) is None
    with torch.no_grad():
        gpt2(input_ids=IDS, past_key_values=inner)
    assert cached_tokens(cache) == 4
    mark = cache_mark(cache, 4)
    assert mark is not None
    assert mark.shape[0] == 2
    inner.reorder_cache(cast("torch.LongTensor", torch.tensor([1, 0])))
    swapped = cache_mark(cache, 4)
    assert swapped is not None
    assert torch.equal(swapped, mark.flip(0))
    assert not torch.equal(swapped, mark)


def test_tuples_of_keys_and_values_are_read():
    keys = torch.randn(2, 4, 6, 8)
    cache = ((keys, keys), (keys + 1, keys))
    assert cached_tokens(cache) == 6
    mark = cache_mark(cache, 6)
    assert mark is not None
    assert torch.equal(mark, keys[:, :, -1] + 1)


def test_entries_with_the_tokens_before_the_heads_are_read():
    keys = torch.randn(2, 6, 4, 8)  # as TransformerLens keeps them
    cache = SimpleNamespace(entries=[SimpleNamespace(past_keys=keys, past_values=keys)])
    assert cached_tokens(cache) == 6
    mark = cache_mark(cache, 6)
    assert mark is not None
    assert torch.equal(mark, keys[:, -1])


def test_a_state_without_keys_tells_nothing():
    assert cached_tokens(SimpleNamespace(conv_states=torch.zeros(2, 3))) is None
    assert cache_mark(SimpleNamespace(conv_states=torch.zeros(2, 3)), 3) is None
