"""Documents to rows."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from tests.models.conftest import SENTENCES
from torch import Tensor, nn
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from isogloss.errors import InvalidInput, ShapeError, UnknownSite
from isogloss.models import (
    CapturedRows,
    LoadedModel,
    RecordProgress,
    Site,
    TextDocument,
    load_model,
    record,
)

TEXTS = [TextDocument(text=s) for s in [*SENTENCES, "Soup.", "", *reversed(SENTENCES), "An order."]]


def joined(pieces: list[CapturedRows], name: str) -> Tensor:
    return torch.cat([piece.sites[name] for piece in pieces])


@pytest.fixture(params=["tiny_bert", "tiny_gpt2"], scope="module")
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return load_model(str(request.getfixturevalue(request.param)))


def sites_of(model: LoadedModel) -> list[str]:
    return ["encoder.layer.0", "encoder.layer.1"] if "bert" in model.name else ["h.0", "h.1"]


def test_every_row_equals_the_model_run_on_its_document_alone(loaded: LoadedModel):
    sites = sites_of(loaded)
    tokenizer = cast("PreTrainedTokenizerFast", loaded.tokenizer)
    pieces = list(
        record(loaded, TEXTS, sites, batch_rows=40, forward_tokens=64, dtype=torch.float32)
    )
    assert len(pieces) > 2
    assert [piece.index for piece in pieces] == list(range(len(pieces)))
    row = 0
    for index, document in enumerate(TEXTS):
        inputs = tokenizer(
            document.text,
            return_tensors="pt",
            return_special_tokens_mask=True,
            truncation=True,
            max_length=24 if "bert" in loaded.name else 64,
        )
        content = inputs.pop("special_tokens_mask")[0] == 0
        if not content.any():
            continue
        with torch.no_grad():
            states = loaded.module(**inputs, output_hidden_states=True).hidden_states
        rows = slice(row, row + int(content.sum()))
        torch.testing.assert_close(joined(pieces, sites[0])[rows], states[1][0][content])
        columns = {
            "token_id": inputs["input_ids"][0][content].numpy(),
            "position": np.arange(int(content.sum())),
            "document_index": np.full(int(content.sum()), index),
        }
        for name, wanted in columns.items():
            found = np.concatenate([getattr(piece, name) for piece in pieces])
            assert np.array_equal(found[rows], wanted), name
        row = rows.stop
    assert row == sum(piece.rows for piece in pieces)


def test_spans_point_at_the_words_of_each_document(loaded: LoadedModel):
    (piece,) = record(loaded, TEXTS, sites_of(loaded))
    assert piece.span is not None
    text = "".join(
        TEXTS[d].text[a:b] for d, (a, b) in zip(piece.document_index, piece.span, strict=True)
    )
    assert "Dictionarieskeeptheorder" in text
    assert piece.span.dtype == piece.position.dtype == piece.token_id.dtype == np.uint32


def test_a_recording_broken_off_goes_on_with_the_same_bits(loaded: LoadedModel):
    sites = sites_of(loaded)
    whole = list(record(loaded, TEXTS, sites, batch_rows=40))
    rest = list(record(loaded, TEXTS, sites, batch_rows=40, start=2))
    assert [piece.index for piece in rest] == [piece.index for piece in whole[2:]]
    for one, other in zip(rest, whole[2:], strict=True):
        assert torch.equal(one.sites[sites[1]], other.sites[sites[1]])
        assert np.array_equal(one.document_index, other.document_index)


def test_progress_counts_rows_cut_tokens_and_empty_documents(loaded: LoadedModel):
    steps: list[RecordProgress] = []
    whole = sum(piece.rows for piece in record(loaded, TEXTS, sites_of(loaded)))
    pieces = list(
        record(
            loaded, TEXTS, sites_of(loaded), max_tokens=9, batch_rows=20, on_progress=steps.append
        )
    )
    last = steps[-1]
    rows = sum(piece.rows for piece in pieces)
    assert (last.documents, last.total_documents, last.rows) == (len(TEXTS), len(TEXTS), rows)
    assert last.empty_documents == 1
    assert last.truncated_documents == 8
    if "bert" not in loaded.name:  # the limit of the tiny BERT cuts already without max_tokens
        assert last.rows + last.dropped_tokens == whole
    assert [step.documents for step in steps] == sorted({step.documents for step in steps})


def test_rows_are_bfloat16_by_default_and_near_float32(loaded: LoadedModel):
    sites = sites_of(loaded)
    (half,) = record(loaded, TEXTS, sites)
    (full,) = record(loaded, TEXTS, sites, dtype=torch.float32)
    (fast,) = record(loaded, TEXTS, sites, dtype=torch.float32, precision="bfloat16")
    assert half.sites[sites[0]].dtype == torch.bfloat16
    assert torch.equal(half.sites[sites[0]], full.sites[sites[0]].bfloat16())
    assert not torch.equal(fast.sites[sites[1]], full.sites[sites[1]])
    torch.testing.assert_close(fast.sites[sites[1]], full.sites[sites[1]], rtol=0.05, atol=0.05)


def test_dropout_is_off_while_recording_and_on_again_between_pieces(loaded: LoadedModel):
    sites = sites_of(loaded)
    quiet = list(record(loaded, TEXTS, sites, batch_rows=40))
    loaded.module.train()
    try:
        for piece, wanted in zip(record(loaded, TEXTS, sites, batch_rows=40), quiet, strict=True):
            assert torch.equal(piece.sites[sites[1]], wanted.sites[sites[1]])
            assert loaded.module.training
    finally:
        loaded.module.eval()


def test_no_hook_is_left_when_a_recording_is_dropped_half_way(loaded: LoadedModel):
    def hooks() -> int:  # transformers leaves some of its own
        return sum(
            len(m._forward_hooks) + len(m._forward_pre_hooks) for m in loaded.module.modules()
        )

    before = hooks()
    next(record(loaded, TEXTS, sites_of(loaded), batch_rows=40))
    assert hooks() == before


def test_a_slow_tokenizer_gives_rows_without_spans():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(400, 8), nn.Linear(8, 5))
    loaded = LoadedModel(module=model, tokenizer=ByT5Tokenizer(), name="bytes")
    (piece,) = record(loaded, TEXTS, ["1"])
    assert piece.span is None
    assert piece.rows == sum(len(d.text.encode()) for d in TEXTS)


class Context(nn.Module):
    """A plain module without attention mask, in which padding would be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 6)
        self.mix = nn.GRU(6, 4, bidirectional=True, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mix(self.embed(tokens))[0]


IDS = [[1, 2, 3], [4, 5], [], [6, 7, 8], [9], [3, 2, 1], [5, 4]]


def test_a_plain_module_is_fed_token_ids_and_never_padding():
    torch.manual_seed(0)
    model = LoadedModel(module=Context(), name="plain")
    (piece,) = record(model, IDS, [Site(name="mix", width=8)], dtype=torch.float32)
    with torch.no_grad():
        wanted = torch.cat([model.module(torch.tensor([ids]))[0] for ids in IDS if ids])
    torch.testing.assert_close(piece.sites["mix"], wanted)
    assert piece.span is None
    assert piece.token_id.tolist() == [token for ids in IDS for token in ids]
    assert piece.position.tolist() == [i for ids in IDS for i in range(len(ids))]
    assert piece.document_index.tolist() == [i for i, ids in enumerate(IDS) for _ in ids]


def test_token_ids_are_cut_and_counted_too():
    steps: list[RecordProgress] = []
    model = LoadedModel(module=Context(), name="plain")
    list(record(model, IDS, ["mix"], max_tokens=2, on_progress=steps.append))
    assert (steps[-1].truncated_documents, steps[-1].dropped_tokens) == (3, 3)


def test_text_needs_a_tokenizer_and_token_ids_need_none(loaded: LoadedModel):
    with pytest.raises(InvalidInput, match=r"11 are texts and 0 token ids.*has no tok"):
        list(record(LoadedModel(module=Context(), name="plain"), TEXTS, ["mix"]))
    with pytest.raises(InvalidInput, match=r"0 are texts and 7 token ids.*has a tok"):
        list(record(loaded, IDS, sites_of(loaded)))


def test_nothing_to_record_gives_no_piece(loaded: LoadedModel):
    assert list(record(loaded, [], sites_of(loaded))) == []
    assert list(record(loaded, [TextDocument(text="")], sites_of(loaded))) == []


def test_an_unknown_site_is_refused_before_anything_runs(loaded: LoadedModel):
    with pytest.raises(UnknownSite, match="nearest"):
        record(loaded, TEXTS, ["encoder.layer.9"])


def test_a_site_of_another_width_or_without_tokens_is_refused():
    class Pooled(Context):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.Identity()

        def forward(self, tokens: Tensor) -> Tensor:
            return self.pool(super().forward(tokens)[:, :1])

    model = LoadedModel(module=Pooled(), name="plain")
    with pytest.raises(ShapeError, match="width 9"):
        list(record(model, IDS, [Site(name="mix", width=9)]))
    with pytest.raises(ShapeError, match="choose another submodule"):
        list(record(model, IDS, ["pool"]))


@pytest.mark.parametrize("name", ["batch_rows", "forward_tokens", "max_tokens"])
def test_a_size_below_one_is_refused(name: str):
    model = LoadedModel(module=Context(), name="plain")
    sizes = {"batch_rows": 10, "forward_tokens": 10, "max_tokens": 10, name: 0}
    with pytest.raises(InvalidInput, match=f"{name} is 0"):
        record(
            model,
            IDS,
            ["mix"],
            batch_rows=sizes["batch_rows"],
            forward_tokens=sizes["forward_tokens"],
            max_tokens=sizes["max_tokens"],
        )


def test_a_model_needs_a_name():
    with pytest.raises(InvalidInput, match="name is empty"):
        LoadedModel(module=Context(), name="")


def test_an_integer_type_for_activations_is_refused():
    model = LoadedModel(module=Context(), name="plain")
    with pytest.raises(InvalidInput, match=r"torch\.int64"):
        record(model, IDS, ["mix"], dtype=torch.int64)


def test_special_tokens_that_a_text_spells_have_no_rows_and_are_said_once(
    tiny_bert: Path, caplog: pytest.LogCaptureFixture
):
    model = load_model(str(tiny_bert))
    texts = [TextDocument(text="An order [SEP] of soup [MASK]."), TextDocument(text="[CLS] soup.")]
    pieces = list(record(model, texts, ["encoder.layer.0"], batch_rows=2))
    assert len(pieces) == 2
    assert not {0, 2, 3, 4} & set(np.concatenate([piece.token_id for piece in pieces]).tolist())
    said = [record.getMessage() for record in caplog.records]
    assert [message[:47] for message in said] == ["3 special tokens stand in the texts themselves:"]


def test_one_call_of_a_layer_or_a_layout_is_chosen():
    class Twice(Context):
        def forward(self, tokens: Tensor) -> Tensor:
            return self.mix(self.embed(self.embed(tokens).argmax(-1)))[0]

    model = LoadedModel(module=Twice(), name="plain")
    with pytest.raises(InvalidInput, match="called 2 times"):
        list(record(model, IDS, ["embed"]))
    (piece,) = record(model, IDS, ["embed"], call=0, layout="batch_first", dtype=torch.float32)
    table = cast("nn.Embedding", model.module.get_submodule("embed"))
    wanted = table.weight[torch.from_numpy(piece.token_id).long()]
    assert torch.equal(piece.sites["embed"], wanted)
