"""Texts as instruments read them."""

from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, load_model
from isogloss.models.attention.prompts import (
    content_ids,
    context,
    read_prompt,
    start_ids,
    token_name,
    token_windows,
)


def test_tokens_are_what_the_text_has(tiny_gpt2: Path):
    model = load_model(str(tiny_gpt2), causal=True)
    prompt = read_prompt(model, "call resumes naïve")
    assert "".join(prompt.tokens).replace("  ", " ") != ""
    assert prompt.ids.shape == (len(prompt.tokens),)
    assert prompt.tokens[0].startswith("c")
    assert any(token.startswith(" ") for token in prompt.tokens)


def test_special_tokens_stand_around_a_text(tiny_bert: Path):
    model = load_model(str(tiny_bert))
    prompt = read_prompt(model, "each call")
    assert (prompt.tokens[0], prompt.tokens[-1]) == ("[CLS]", "[SEP]")
    assert start_ids(model) == [2]
    assert not set(content_ids(model).tolist()) & {0, 2, 3, 4}


def test_what_cannot_be_read_is_refused_before_any_pass(tiny_gpt2: Path):
    model = load_model(str(tiny_gpt2), causal=True)
    assert context(model) == 64
    for text, said in (
        ("", "has no token"),
        ("call " * 80, "the model reads 64; shorten it"),
        ([1, 9999], "token id 9999 is not in the model's table"),
        ([], "has no token"),
        ([-1], "token ids go from -1"),
        ("a \udcff text", "a lone surrogate at 2"),
    ):
        with pytest.raises(InvalidInput, match=said):
            read_prompt(model, text)
    bare = LoadedModel(module=model.module, name="bare")
    with pytest.raises(InvalidInput, match=r"'bare' has no tokenizer; give token ids"):
        read_prompt(bare, "a text")
    assert read_prompt(bare, [5, 6]).tokens == ("5", "6")


def test_how_many_ids_a_module_knows_must_be_told():
    from torch import nn

    with pytest.raises(InvalidInput, match="give the token ids to run on"):
        content_ids(LoadedModel(module=nn.Linear(2, 2), name="plain"))


def test_texts_too_short_for_a_window_are_named_with_what_they_have(tiny_gpt2: Path):
    model = load_model(str(tiny_gpt2), causal=True)
    has = len(read_prompt(model, "each call").tokens)
    with pytest.raises(InvalidInput, match=rf"the longest of 2 has {has}\): .*fewer than 48"):
        token_windows(model, ["", "each call"], tokens=48, most=2)


def test_a_token_is_named_as_text_has_it_and_without_a_tokenizer_by_its_id(tiny_gpt2: Path):
    model = load_model(str(tiny_gpt2), causal=True)
    assert isinstance(model.tokenizer, PreTrainedTokenizerFast)
    model.tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()  # as GPT-2's own has
    vocabulary = model.tokenizer.get_vocab()
    words = [name for name in vocabulary if name[0] == "Ġ" and name[1:].isascii()]
    assert words
    for name in words:
        assert token_name(model, vocabulary[name]) == " " + name[1:]
    assert token_name(model, vocabulary["â"]) == "â"  # the first of several bytes of a character
    beyond = len(vocabulary) + 5
    assert token_name(model, beyond) == str(beyond)
    assert token_name(replace(model, tokenizer=None), 3) == "3"
