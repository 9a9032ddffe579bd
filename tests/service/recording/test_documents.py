"""Documents are recorded once each, in order, over as many runs as it takes."""

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from isogloss import Client
from isogloss.errors import AlreadyExists, InvalidInput
from isogloss.models import LoadedModel, RecordProgress, TextDocument
from isogloss.service.recording.documents import DocumentOptions, record_documents
from isogloss.service.recording.options import RecorderOptions
from isogloss.store import Document, RowBatch

TEXTS = [[1, 2, 3], [4, 5], [1, 2, 3], [6, 7, 8, 9]]


class Tiny(nn.Module):
    """An embedding and one layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embedding = nn.Embedding(20, 6)
        self.layer = nn.Linear(6, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.layer(self.embedding(input_ids))


def test_each_document_is_recorded_once_however_often_it_comes(
    local_client: Client, name: str
) -> None:
    model = LoadedModel(module=Tiny(), tokenizer=None, name="tiny")
    seen: list[RecordProgress] = []
    routes: list[str] = []

    def record(texts: list[list[int]], batch_rows: int = 8192) -> int:
        return record_documents(
            local_client,
            model,
            texts,
            sites=["layer"],
            recording=name,
            options=DocumentOptions(dtype="float32", batch_rows=batch_rows),
            on_progress=seen.append,
            on_route=routes.append,
        ).rows

    assert record(TEXTS[:2], batch_rows=1) == 5
    assert record(TEXTS) == 9
    assert record(TEXTS) == 9
    assert len(routes) == 3
    assert all(route.startswith("through ") for route in routes)
    assert [(p.documents, p.total_documents) for p in seen][-1] == (4, 4)
    tokens = local_client.tokens(name).token_id
    assert tokens.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    with torch.inference_mode():
        wanted = model.module(torch.tensor([tokens.tolist()]))[0].numpy()
    found = local_client.read(name, "layer").astype(np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert [len(d.key) > 0 for d in local_client.documents(name).values()] == [True] * 3


def test_what_decides_the_rows_is_part_of_the_description(local_client: Client, name: str) -> None:
    model = LoadedModel(module=Tiny(), tokenizer=None, name="tiny")
    record_documents(
        local_client,
        model,
        TEXTS,
        sites=["layer"],
        recording=name,
        options=DocumentOptions(corpus="mine", max_tokens=7),
        on_progress=None,
    )
    spec = local_client.recording(name).spec
    assert dict(spec.provenance) == {"precision": "float32", "max_tokens": "7"}
    assert (spec.corpus, spec.has_spans, spec.sites[0].dtype) == ("mine", False, "bfloat16")


def test_a_document_is_recorded_once_at_each_step_of_its_training(
    client: Client, name: str
) -> None:
    module = Tiny()
    model = LoadedModel(module=module, tokenizer=None, name="tiny")

    def record(texts: list[list[int]], step: int) -> int:
        options = DocumentOptions(dtype="float32", step=step)
        return client.record_documents(
            model, texts, sites=["layer"], recording=name, options=options
        ).rows

    assert record(TEXTS[:2], 0) == 5
    with torch.no_grad():
        for weights in module.parameters():
            weights += torch.linspace(0, 1, weights.numel()).reshape(weights.shape)
    assert record(TEXTS[:1], 100) == 8
    assert record(TEXTS, 100) == 14
    assert record(TEXTS, 100) == 14
    steps = [(found.step, found.rows, found.documents) for found in client.steps(name)]
    assert steps == [(0, 5, 2), (100, 9, 3)]
    tokens = client.tokens(name)
    assert tokens.step.tolist() == [0] * 5 + [100] * 9
    rows = client.read(name, "layer").astype(np.float32)
    with torch.inference_mode():
        wanted = module(torch.tensor([tokens.token_id[5:].tolist()]))[0].numpy()
    np.testing.assert_allclose(rows[5:], wanted, rtol=1e-5, atol=1e-6)
    assert np.abs(rows[:3] - rows[5:8]).max() > 0.1
    with pytest.raises(AlreadyExists, match="another model"):  # at step 0 no weights change
        record(TEXTS, 0)


def test_documents_that_are_described_and_have_no_rows_are_recorded(
    local_client: Client, name: str
) -> None:
    model = LoadedModel(module=Tiny(), tokenizer=None, name="tiny")
    options = DocumentOptions(dtype="float32")
    local_client.record_documents(
        model, TEXTS[:1], sites=["layer"], recording=name, options=options
    )
    spec = local_client.recording(name).spec
    described = Document.from_token_ids(TEXTS[1])
    first = Document.from_token_ids(TEXTS[0])
    with local_client.appender(name, "other") as appender:
        appender.write(
            RowBatch(
                producer="other",
                sequence=1,
                sites={"layer": np.zeros((1, 4), np.float32)},
                token_id=np.ones(1, np.uint32),
                document=np.full(1, first.id, np.uint64),
                position=np.zeros(1, np.uint32),
                documents=(described,),
            )
        )
    assert described.id in local_client.documents(name)
    assert described.id not in local_client.known_documents(name)
    made = local_client.record_documents(
        model, TEXTS[:2], sites=["layer"], recording=name, options=options
    )
    assert (made.spec, made.rows) == (spec, 3 + 1 + 2)


@pytest.mark.parametrize("step", [-1, 1 << 64])
def test_a_step_that_is_none_is_refused_before_a_model_runs(step: int) -> None:
    with pytest.raises(InvalidInput, match="step is"):
        DocumentOptions(step=step)


class Twice(Tiny):
    """The layer runs twice in a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.layer(self.layer(self.embedding(input_ids)))


def test_one_of_several_calls_is_read_where_it_is_named(local_client: Client, name: str) -> None:
    twice = Twice()
    model = LoadedModel(module=twice, tokenizer=None, name="twice")

    def record(call: int | None) -> np.ndarray:
        recording = f"{name}-{call}".replace("--", "-last-")
        options = DocumentOptions(dtype="float32", call=call)
        local_client.record_documents(
            model, [[1, 2, 3]], sites=["layer"], recording=recording, options=options
        )
        provenance = local_client.recording(recording).spec.provenance
        assert provenance["call"] == str(call)
        return local_client.read(recording, "layer")

    first, last = record(0), record(-1)
    with torch.no_grad():
        once = twice.layer(twice.embedding(torch.tensor([1, 2, 3])))
        np.testing.assert_array_equal(first, once.numpy())
        np.testing.assert_array_equal(last, twice.layer(once).numpy())
    with pytest.raises(InvalidInput, match="call"):
        record(None)


def test_a_share_of_the_documents_is_that_of_a_loop(local_client: Client, name: str) -> None:
    texts = [[i, j] for i in range(8) for j in range(8)]
    model = LoadedModel(module=Tiny(), tokenizer=None, name="tiny")
    local_client.record_documents(
        model, texts, sites=["layer"], recording=name, options=DocumentOptions(sample=0.5)
    )
    loop = f"{name}-loop"
    options = RecorderOptions(sample=0.5)
    with local_client.record(model.module, sites=["layer"], recording=loop, options=options):
        model.module(torch.tensor(texts))
    kept = set(local_client.documents(name))
    assert kept == set(local_client.documents(loop))
    assert 16 < len(kept) < 48
    assert local_client.recording(name).spec.provenance["sample"] == "0.5"
    with pytest.raises(AlreadyExists):  # of a recording the share is one
        local_client.record_documents(model, texts, sites=["layer"], recording=name)
    with pytest.raises(InvalidInput, match="sample"):
        DocumentOptions(sample=0.0)


def test_one_of_several_calls_of_a_site_is_chosen_and_named(
    local_client: Client, name: str
) -> None:
    class Twice(Tiny):
        """Calls its layer for the text and for its negative."""

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            return self.layer(self.embedding(input_ids)) + self.layer(-self.embedding(input_ids))

    model = LoadedModel(module=Twice(), name="twice")

    def record(recording: str, call: int | None) -> None:
        options = DocumentOptions(dtype="float32", call=call, layout="batch_first")
        record_documents(
            local_client, model, TEXTS, sites=["layer"], recording=recording, options=options,
            on_progress=None,
        )  # fmt: skip

    with pytest.raises(InvalidInput, match="call="):
        record(f"{name}-both", None)
    for number in (0, -1):
        record(f"{name}-{number % 2}", number)
    told = dict(local_client.recording(f"{name}-0").spec.provenance)
    assert (told["call"], told["layout"]) == ("0", "batch_first")
    first, second = (local_client.read(f"{name}-{n}", "layer").astype(np.float32) for n in (0, 1))
    bias = model.module.get_parameter("layer.bias").detach().numpy()
    np.testing.assert_allclose(first - bias, bias - second, rtol=1e-4, atol=1e-5)
    assert np.abs(first - second).max() > 0.1


def test_a_text_for_a_model_without_a_tokenizer_is_refused_and_lists_of_ids_are_not(
    local_client: Client, name: str
) -> None:
    model = LoadedModel(module=Tiny(), tokenizer=None, name="tiny")
    with pytest.raises(InvalidInput, match=r"document 1 is a text .* no tokenizer"):
        local_client.record_documents(
            model,
            cast("list[TextDocument]", [[1, 2], TextDocument(text="a")]),
            sites=["layer"],
            recording=name,
        )
    local_client.record_documents(model, [[1, 2]], sites=["layer"], recording=name)
    assert len(local_client.documents(name)) == 1
