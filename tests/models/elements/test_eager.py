"""Eager attention for a while."""

import logging
from typing import Any

import pytest
from tests.models.elements.families import FAMILIES
from torch import nn
from transformers import LlavaConfig

from isogloss.models.elements.eager import eager_attention


def test_a_fused_way_is_said_once_a_model_and_set_again(caplog: pytest.LogCaptureFixture):
    model = FAMILIES["llama"]()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with eager_attention(model):
                assert model.config._attn_implementation == "eager"
            assert model.config._attn_implementation == "sdpa"
    (said,) = caplog.messages
    assert "LlamaForCausalLM computes attention by sdpa" in said


def test_it_is_set_again_after_an_exception():
    model = FAMILIES["gpt2"]()
    with pytest.raises(KeyboardInterrupt), eager_attention(model):
        raise KeyboardInterrupt
    assert model.config._attn_implementation == "sdpa"


def test_configurations_within_keep_their_own_ways():
    config: Any = LlavaConfig()
    config._attn_implementation = {"": "sdpa", "text_config": "flash_attention_2"}
    model: Any = nn.Module()
    model.config = config
    with eager_attention(model):
        assert config.text_config._attn_implementation == "eager"
    assert config._attn_implementation == "sdpa"
    assert config.text_config._attn_implementation == "flash_attention_2"


def test_a_module_without_the_setting_is_left_alone(caplog: pytest.LogCaptureFixture):
    with eager_attention(nn.Linear(2, 2)):
        pass
    assert caplog.messages == []
