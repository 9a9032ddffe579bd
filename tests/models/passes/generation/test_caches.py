"""What caches tell."""

import copy
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
from transformers.models.reformer.modeling_reformer import ReformerDynamicCache

from isogloss.models.passes.generation.caches import (
    cache_in,
    cache_mark,
    cache_state,
    cached_tokens,
)

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
    assert cache_mark(cache) is None
    before = cache_state(cache)
    assert before.is_empty
    with torch.no_grad():
        gpt2(input_ids=IDS, past_key_values=inner)
    assert cached_tokens(cache) == 4
    after, mark = cache_state(cache), cache_mark(cache)
    assert after.is_of(before)
    assert after.tokens == 4
    assert mark is not None
    assert mark.shape[0] == 2
    assert after.is_like(cache_state(copy.deepcopy(cache)))
    assert not after.is_of(cache_state(copy.deepcopy(cache)))
    inner.reorder_cache(cast("torch.LongTensor", torch.tensor([1, 0])))
    swapped = cache_mark(cache)
    assert swapped is not None
    torch.testing.assert_close(swapped, mark.flip(0))
    assert not after.is_like(cache_state(cache))
    assert after.is_alive
    del cache, inner, caches
    assert not after.is_alive


def test_tuples_of_keys_and_values_are_read():
    keys = torch.randn(2, 4, 6, 8)
    cache = ((keys, keys), (keys + 1, keys))
    assert cached_tokens(cache) == 6
    state, mark = cache_state(cache), cache_mark(cache)
    assert mark is not None
    assert mark.shape == (2, 4, 8)
    assert state.is_of(cache_state(tuple(cache)))
    assert state.is_alive
    assert cache_in((keys[:, 0], cache)) is cache
    assert cache_in({"logits": keys, "past_key_values": cache}) is cache
    assert cache_in((keys, (keys, keys), None)) is None
    del cache
    assert not state.is_alive


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_another_order_of_tokens_is_another_mark_in_every_dtype(dtype: torch.dtype):
    keys = torch.randn(1, 2, 6, 8).to(dtype)
    cache, other = ((keys, keys),), ((keys.flip(2), keys),)
    assert cache_state(cache).is_like(cache_state(((keys.clone(), keys),)))
    assert not cache_state(cache).is_like(cache_state(other))


def test_entries_with_the_tokens_before_the_heads_are_read():
    keys = torch.randn(2, 6, 4, 8)  # as TransformerLens keeps them
    cache = SimpleNamespace(entries=[SimpleNamespace(past_keys=keys, past_values=keys)])
    assert cached_tokens(cache) == 6
    mark = cache_mark(cache)
    assert mark is not None
    assert mark.shape == (2, 4, 8)


class States:
    def __init__(self) -> None:
        self.conv_states = {0: torch.zeros(2, 3)}


def test_a_state_without_keys_tells_no_length_and_is_marked_by_its_numbers():
    cache = States()
    assert cached_tokens(cache) is None
    assert cache_mark(cache) is None
    assert cache_state(cache).is_empty
    cache.conv_states[0] += torch.tensor([[1.0], [2.0]])
    state = cache_state(cache)
    assert not state.is_empty
    cache.conv_states[0] = cache.conv_states[0].flip(0)
    assert not state.is_like(cache_state(cache))
    assert state.is_of(cache_state(cache))


def test_a_cache_that_counts_no_tokens_tells_none_and_has_a_mark():
    """Reformer's is asked for its length and answers None."""
    cache = ReformerDynamicCache()
    assert cached_tokens(cache) is None
    assert cache_mark(cache) is None
    cache.update(torch.tensor([1]), torch.ones(1, 2, 4), 0)
    assert cached_tokens(cache) is None
    assert cache_mark(cache) is not None
