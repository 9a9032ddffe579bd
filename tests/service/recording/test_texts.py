"""Documents of an own loop are those of record_documents of the same texts."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.models.conftest import SENTENCES, byte_level, wordpiece
from tests.tiny_models import save_tiny_bert, save_tiny_pythia
from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

from isogloss import Client
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, TextDocument, load_model
from isogloss.service.recording.documents import DocumentOptions
from isogloss.service.recording.options import RecorderOptions
from isogloss.service.recording.texts import DocumentNames, TextNames, names_for
from isogloss.store import Document

TEXTS = [*SENTENCES, "naïve Ünïcode 東京 🙂 text", " leading space", "a"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "bert": load_model(str(save_tiny_bert(folder / "bert", seed=0, width=16))),
        "pythia": load_model(str(save_tiny_pythia(folder / "pythia", seed=0, width=16))),
    }


def decoding() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that can decode, as those of real models do."""
    tokenizer = copy.deepcopy(byte_level())
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def read(model: LoadedModel, texts: Sequence[str], length: int = 24) -> None:
    tokenizer = model.tokenizer
    assert tokenizer is not None
    pad = getattr(tokenizer, "pad_token", None) or getattr(tokenizer, "eos_token", None)
    tokenizer.pad_token = pad  # type: ignore[attr-defined]
    inputs = tokenizer(  # type: ignore[operator]
        list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt"
    )
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        model.module(**inputs)


@pytest.mark.parametrize("kind", ["bert", "pythia"])
def test_an_own_loop_with_texts_makes_the_rows_of_record_documents(
    local_client: Client, models: dict[str, LoadedModel], kind: str
) -> None:
    model, site = models[kind], "encoder.layer.1" if kind == "bert" else "layers.1"
    documents = [TextDocument(text=text, group=f"g{i}") for i, text in enumerate(TEXTS)]
    with local_client.record(
        model.module, model.tokenizer, sites=[site], recording=f"own-{kind}"
    ) as recorder:
        for start in range(0, len(documents), 3):
            some = documents[start : start + 3]
            with recorder.documents([*some, ""]):  # the last has no content, and no rows
                read(model, [*(document.text for document in some), ""])
    assert dict(recorder.counts.left_out) == {}
    assert recorder.counts.without_text == 0
    options = DocumentOptions(max_tokens=24)
    local_client.record_documents(
        model, documents, sites=[site], recording=f"documents-{kind}", options=options
    )
    own, other = (local_client.tokens(f"{way}-{kind}") for way in ("own", "documents"))
    assert local_client.documents(f"own-{kind}") == local_client.documents(f"documents-{kind}")
    assert own.span is not None
    assert other.span is not None
    for column in ("token_id", "document", "position", "span"):
        np.testing.assert_array_equal(getattr(own, column), getattr(other, column), column)


def test_a_loop_that_says_nothing_has_the_texts_that_its_tokens_decode_to(
    local_client: Client, name: str, models: dict[str, LoadedModel]
) -> None:
    model = replace(models["pythia"], tokenizer=decoding())
    whole = [text for text in TEXTS if len(text) < 40]
    with local_client.record(
        model.module, model.tokenizer, sites=["layers.1"], recording=name
    ) as recorder:
        read(model, whole, 500)
    assert recorder.counts.without_text == 0
    documents = local_client.documents(name)
    assert set(documents) == {Document.from_text(text).id for text in whole}
    assert {document.text for document in documents.values()} == set(whole)
    assert recorder.known(whole) == [True] * len(whole)
    assert recorder.known(["another"]) == [False]
    ids = model.tokenizer(whole).input_ids  # type: ignore[misc]
    assert recorder.known(ids) == [True] * len(whole)


def test_tokens_that_do_not_encode_back_are_recorded_without_text() -> None:
    names = names_for(decoding())
    assert isinstance(names, TextNames)
    whole = byte_level()("ab", add_special_tokens=False).input_ids
    odd = np.array([byte_level()("東", add_special_tokens=False).input_ids[0]], np.uint32)
    content = [np.array(whole, np.uint32), odd]
    good, bad = names.name([c.astype(np.int64) for c in content], content)
    assert good.document == Document.from_text("ab")
    assert bad.document == Document.from_token_ids(odd)
    assert bad.span is not None
    assert bad.span.tolist() == [[0, 0]]


def test_texts_that_were_not_read_are_refused_and_other_passes_are_kept(
    local_client: Client, name: str, models: dict[str, LoadedModel]
) -> None:
    model = models["pythia"]
    with local_client.record(
        model.module, model.tokenizer, sites=["layers.1"], recording=name
    ) as recorder:
        with recorder.documents(TEXTS[:2]):
            read(model, TEXTS[1::-1])
        with recorder.documents(TEXTS[:1]):
            read(model, TEXTS[:2])
        with recorder.documents(TEXTS[:2]):
            read(model, TEXTS[:2])
    assert recorder.counts.failed_passes == 2
    (swapped,) = [reason for reason in recorder.counts.left_out if "encodes to" in reason]
    assert TEXTS[0][:10] in swapped
    assert any("has no texts" in reason for reason in recorder.counts.left_out)
    assert len(local_client.documents(name)) == 2


def test_without_a_fast_tokenizer_documents_are_token_ids() -> None:
    class Slow:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    for tokenizer in (None, Slow()):
        names = names_for(tokenizer)
        assert type(names) is DocumentNames
        (named,) = names.name([np.array([1, 2])], [np.array([1, 2], np.uint32)])
        assert (named.document, named.span) == (Document.from_token_ids([1, 2]), None)
        with pytest.raises(InvalidInput, match="fast tokenizer"):
            names.of_texts(["a"])
    assert names_for(wordpiece()).has_spans


def test_texts_need_a_fast_tokenizer(local_client: Client, name: str) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4))
    recorder = local_client.record(
        model, sites=["0"], recording=name, options=RecorderOptions(strict=True)
    )
    with recorder, pytest.raises(InvalidInput, match="fast tokenizer"), recorder.documents(["a"]):
        pass


def test_a_sequence_with_other_special_tokens_is_another_document_than_its_text(
    local_client: Client, name: str, models: dict[str, LoadedModel]
) -> None:
    model = models["bert"]
    tokenizer = wordpiece()
    # what its tokens decode to, so that a loop that says nothing has it too
    one, other = (str(tokenizer.decode(tokenizer(t).input_ids[1:-1])) for t in TEXTS[:2])
    plain = tokenizer(one).input_ids
    bare = plain[1:-1]
    pair = [*tokenizer(one).input_ids, *tokenizer(other).input_ids[1:]]
    with local_client.record(
        model.module, tokenizer, sites=["encoder.layer.1"], recording=name, step=1
    ) as recorder:
        for ids in (bare, pair, plain):
            with torch.no_grad():
                model.module(input_ids=torch.tensor([ids]))
        with recorder.documents([one]), torch.no_grad():
            model.module(input_ids=torch.tensor([bare]))
    counts = recorder.counts
    documents = local_client.documents(name)
    texts = [document.text for document in documents.values()]
    assert texts.count(one) == 1
    assert texts.count(None) == 2, "named by their ids"
    assert (counts.known_documents, counts.without_text) == (0, 2)
    (reason,) = counts.left_out
    assert "with its special tokens" in reason
    rows = local_client.tokens(name)
    by_text = Document.from_text(one).id
    wanted = torch.tensor([plain])
    with torch.no_grad():
        right = model.module(input_ids=wanted, output_hidden_states=True).hidden_states[2][0, 1:-1]
    found = local_client.read(name, "encoder.layer.1")[rows.document == by_text]
    assert found.shape == right.shape
    np.testing.assert_array_equal(
        found.astype(np.float32), right.to(torch.bfloat16).float().numpy()
    )


@pytest.mark.parametrize("odd", ["long", "group"])
def test_a_text_that_no_batch_may_describe_costs_its_pass_alone(
    local_client: Client, name: str, models: dict[str, LoadedModel], odd: str
) -> None:
    model = models["bert"]  # to its tokenizer a very long word is one token, found at once
    text = TEXTS[0]
    long = f"{text} {'x' * 9_000_000}"
    given = long if odd == "long" else TextDocument(text=text, group="\ud800")
    with local_client.record(
        model.module, model.tokenizer, sites=["encoder.layer.1"], recording=name
    ) as recorder:
        read(model, [TEXTS[1]])
        with recorder.documents([given]):
            read(model, [text if odd == "group" else long], 12)
        read(model, [TEXTS[2]])
    assert recorder.error is None
    ((reason, passes),) = recorder.counts.left_out.items()
    assert ("cut it into passages" if odd == "long" else "lone surrogate") in reason
    assert passes == 1
    assert len(local_client.documents(name)) == 2
