"""Encoding documents, and what names a tokenizer."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from capture_figures.architectures import NotBuilt, TinyModel, text_architectures, tiny_model
from tests.models.conftest import SENTENCES, byte_level, wordpiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase

from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, record, tokenizer_id, vocabulary
from isogloss.models.tokens import (
    begin_ids,
    encode_documents,
    encode_token_ids,
    padding_id,
    special_ids,
    token_limit,
)

TRICKY = "Naïve 🙂 café — menu’s\n\n  don't, 12!"


@pytest.mark.parametrize("make", [wordpiece, byte_level])
def test_spans_are_code_points_of_the_text(make: Callable[[], PreTrainedTokenizerBase]):
    tokenizer = make()
    (document,) = encode_documents(tokenizer, [TRICKY], 100)
    assert document.span is not None
    assert "🙂" in [TRICKY[a:b] for a, b in document.span]
    assert (document.span[:, 0] <= document.span[:, 1]).all()
    assert (np.diff(document.span[document.content].astype(int), axis=0) >= 0).all()
    covered = {i for a, b in document.span[document.content] for i in range(a, b)}
    assert {i for i, c in enumerate(TRICKY) if not c.isspace()} <= covered


def test_special_tokens_are_not_content():
    (document,) = encode_documents(wordpiece(), ["the menu"], 100)
    assert document.input_ids[0] == 2
    assert document.input_ids[-1] == 3
    assert not document.content[[0, -1]].any()
    assert document.content[1:-1].all()


def test_what_is_cut_off_is_counted_and_special_tokens_stay():
    tokenizer = wordpiece()
    whole, cut = (encode_documents(tokenizer, [" ".join(SENTENCES)], n)[0] for n in (500, 12))
    assert whole.dropped == 0
    assert len(cut.input_ids) == 12
    assert cut.input_ids[-1] == 3
    assert cut.dropped == whole.content.sum() - 10
    assert np.array_equal(cut.input_ids[:11], whole.input_ids[:11])


def test_encoding_leaves_the_users_tokenizer_as_it_was():
    tokenizer = copy.deepcopy(wordpiece())
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=30)
    before = tokenizer.backend_tokenizer.to_str()
    (document,) = encode_documents(tokenizer, [SENTENCES[0]], 20)
    assert document.content.sum() > 3
    assert tokenizer.backend_tokenizer.to_str() == before


def test_a_slow_tokenizer_gives_ids_without_spans():
    (document,) = encode_documents(ByT5Tokenizer(), ["a soup"], 100)
    assert document.span is None
    assert document.input_ids.tolist() == ByT5Tokenizer()("a soup")["input_ids"]
    assert document.content.tolist() == [True] * 6 + [False]
    (cut,) = encode_documents(ByT5Tokenizer(), ["a soup"], 4)
    assert cut.input_ids.tolist() == [*document.input_ids[:3], document.input_ids[-1]]
    assert cut.dropped == 3


def test_a_tokenizer_of_the_tokenizers_library_serves_too():
    plain = wordpiece().backend_tokenizer
    (document,) = encode_documents(plain, ["the menu"], 100)
    assert document.span is not None
    assert tokenizer_id(plain) == tokenizer_id(wordpiece())


@pytest.mark.parametrize("make", [wordpiece, ByT5Tokenizer])
def test_a_length_without_room_for_content_is_refused(make: Callable[[], PreTrainedTokenizerBase]):
    special = 2 if make is wordpiece else 1
    with pytest.raises(InvalidInput, match=f"give at least {special + 1}"):
        encode_documents(make(), ["x"], special)


def test_an_object_that_is_no_tokenizer_is_refused():
    class Vocabulary:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    with pytest.raises(InvalidInput, match="Vocabulary is no tokenizer"):
        encode_documents(Vocabulary(), ["a"], 9)


@pytest.mark.parametrize("ids", [[3, -1], [2**32]])
def test_token_ids_out_of_range_are_refused(ids: list[int]):
    with pytest.raises(InvalidInput, match=r"wanted \[0, 2\*\*32\)"):
        encode_token_ids(ids, None)


def tiny(vocab: dict[str, int], *, lowercase: bool = False, split: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    if split:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_the_tokenizer_id_follows_what_changes_token_ids_and_nothing_else():
    base = {"?": 0, "a": 1, "b": 2}
    ids = {
        tokenizer_id(tiny(base)),
        tokenizer_id(tiny({"?": 0, "a": 2, "b": 1})),
        tokenizer_id(tiny(base, lowercase=True)),
        tokenizer_id(tiny(base, split=False)),
        tokenizer_id(ByT5Tokenizer()),
        tokenizer_id(ByT5Tokenizer(extra_ids=3)),
    }
    assert len(ids) == 6
    padded = tiny(dict(reversed(base.items())))
    padded.enable_padding()
    padded.enable_truncation(7)
    assert tokenizer_id(padded) == tokenizer_id(tiny(base))


def test_the_vocabulary_is_indexed_by_id():
    assert vocabulary(tiny({"?": 0, "a": 3, "b": 1})) == ("?", "b", "", "a")
    strings = vocabulary(wordpiece())
    assert strings[2:4] == ("[CLS]", "[SEP]")
    assert all(wordpiece().convert_tokens_to_ids(s) == i for i, s in enumerate(strings))


def test_the_longest_input_is_the_smaller_of_what_tokenizer_and_position_table_say():
    class Roberta(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position_embeddings = nn.Embedding(22, 4, padding_idx=1)

    assert token_limit(Roberta(), None) == 20
    assert token_limit(Roberta(), wordpiece()) == 20
    assert token_limit(nn.Linear(1, 1), wordpiece()) == 24
    assert token_limit(nn.Linear(1, 1), byte_level()) is None


# one family for each way of making positions
LIMITED = (
    "bart", "bert", "biogpt", "codegen", "ctrl", "electra", "flaubert", "gpt2", "gpt_neo", "gptj",
    "longformer", "marian", "mbart", "mpnet", "mpt", "mvp", "nystromformer", "openai-gpt", "opt",
    "pegasus", "plbart", "reformer", "roberta", "roformer", "xlm", "yoso",
)  # fmt: skip
UNLIMITED = (
    "bloom",
    "falcon",
    "fsmt",
    "gpt_neox",
    "llama",
    "m2m_100",
    "mamba",
    "nomic_bert",
    "t5",
    "xglm",
)


def reads(model: TinyModel, tokens: int) -> bool:
    """Say whether a model takes a text of so many tokens."""
    inputs = {"input_ids": torch.arange(tokens)[None] % 80 + 5}
    if model.decoder_site is not None:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    try:
        with torch.no_grad():
            model.module(**inputs)
    except (IndexError, RuntimeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("name", LIMITED)
def test_a_text_of_the_limit_runs_and_one_token_more_does_not(name: str):
    model = tiny_model(name)
    limit = token_limit(model.module, None)
    assert limit is not None
    assert reads(model, limit)
    assert not reads(model, limit + 1)


@pytest.mark.parametrize("name", UNLIMITED)
def test_positions_that_are_no_table_have_no_limit(name: str):
    model = tiny_model(name)
    assert token_limit(model.module, None) is None
    assert reads(model, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", text_architectures())
def test_the_limit_holds_for_every_architecture(name: str):
    try:
        model = tiny_model(name)
    except NotBuilt as reason:
        pytest.skip(str(reason))
    if not reads(model, 9):
        pytest.skip("it does not run on a text alone")
    limit = token_limit(model.module, None)
    # ProphetNet's decoder looks two positions ahead; its encoder has no need of it
    slack = 1 if name == "prophetnet" else 0
    assert reads(model, 200 if limit is None else limit - slack)
    if limit is not None and name != "tapas":  # whose positions stay at the last one from there on
        assert not reads(model, limit + 1)


def test_a_text_longer_than_the_table_of_opt_is_cut_there():
    model = tiny_model("opt")
    document = [5 + i % 50 for i in range(150)]
    pieces = list(record(LoadedModel(module=model.module, name="opt"), [document], [model.site]))
    assert sum(piece.rows for piece in pieces) == 64


SPELT = "alpha [SEP] beta ☃ [MASK] gamma"


def test_special_tokens_are_told_by_their_ids_also_where_a_text_spells_them():
    tokenizer = wordpiece()
    for given in (tokenizer, tokenizer.backend_tokenizer):
        special = special_ids(given)
        assert special == frozenset([0, 2, 3, 4])  # the unknown token, 1, is content
        (document,) = encode_documents(given, [SPELT], 100)
        content = document.input_ids[document.content].tolist()
        assert 1 in content
        assert not special & set(content)
        assert document.literal == 2
        assert len(document.content) - len(content) == 4


def test_an_unknown_token_that_also_ends_texts_is_special():
    tokenizer = byte_level()
    tokenizer.unk_token = tokenizer.eos_token
    assert special_ids(tokenizer) == frozenset([0])
    assert special_ids(ByT5Tokenizer()) >= {0, 1}
    assert 2 not in special_ids(ByT5Tokenizer())
    assert special_ids(None) == frozenset()


def test_added_tokens_are_special_where_they_were_added_as_such():
    tokenizer = copy.deepcopy(wordpiece())
    tokenizer.add_tokens(["<plain>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    known = tokenizer.get_vocab()
    for given in (tokenizer, tokenizer.backend_tokenizer):
        assert known["<turn>"] in special_ids(given)
        assert known["<plain>"] not in special_ids(given)


def test_the_id_of_padding_is_known_where_a_tokenizer_has_one():
    assert padding_id(wordpiece()) == 0
    assert padding_id(byte_level()) is None
    assert padding_id(None) is None
    bare = Tokenizer(models.BPE())
    assert padding_id(bare) is None
    bare.enable_padding(pad_id=7)
    assert padding_id(bare) == 7


def test_what_stands_before_a_text_is_told_by_its_tokenizer():
    assert begin_ids(wordpiece()) == (2,)
    assert begin_ids(byte_level()) == ()
    assert begin_ids(None) is None
