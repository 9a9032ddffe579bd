"""Recording live models and documents through both kinds of client."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.service.serving import start_server
from torch import Tensor, nn

import isogloss
from isogloss import Client
from isogloss.errors import AlreadyExists, Conflict, InvalidInput, ShapeError, UnknownSite
from isogloss.models import LoadedModel, RecordProgress
from isogloss.service.recording.documents import DocumentOptions
from isogloss.service.recording.live import Recorder, RecorderOptions
from isogloss.store import Document


class Tiny(nn.Module):
    """Two layers over an embedding; takes what Hugging Face models take."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embedding = nn.Embedding(50, 12)
        self.first = nn.Linear(12, 12)
        self.second = nn.Linear(12, 8)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.second(torch.relu(self.first(self.embedding(input_ids))))


def sequences(count: int, seed: int = 1) -> list[list[int]]:
    chance = np.random.default_rng(seed)
    return [chance.integers(0, 50, chance.integers(3, 9)).tolist() for _ in range(count)]


def padded(some: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, some))
    ids = torch.tensor([[*s, *[0] * (width - len(s))] for s in some])
    mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in some])
    return ids, mask


def test_a_live_model_is_recorded_while_it_trains(client: Client, name: str) -> None:
    model = Tiny()
    texts = sequences(40)
    wanted: list[Tensor] = []
    optimiser = torch.optim.SGD(model.parameters(), 0.01)
    options = RecorderOptions(batch_rows=50)
    sites = ["first", "second"]
    with client.record(model, sites=sites, recording=name, options=options) as recorder:
        for start in range(0, 40, 8):
            ids, mask = padded(texts[start : start + 8])
            out = model(input_ids=ids, attention_mask=mask)
            wanted.append(out.detach()[mask.bool()].to(torch.bfloat16))
            out.square().mean().backward()
            optimiser.step()
    rows = sum(map(len, texts))
    counts = recorder.counts
    assert recorder.error is None
    assert (counts.passes, counts.rows, counts.durable_rows) == (5, rows, rows)
    assert (counts.dropped_passes, counts.failed_passes) == (0, 0)
    found = client.read(name, "second")
    assert found.dtype.name == "bfloat16"
    np.testing.assert_array_equal(found.astype(np.float32), torch.cat(wanted).float().numpy())
    columns = client.tokens(name)
    np.testing.assert_array_equal(columns.token_id, np.concatenate(texts))
    assert columns.position.tolist() == [i for text in texts for i in range(len(text))]
    ids_of = [Document.from_token_ids(text).id for text in texts]
    assert columns.document.tolist() == [d for d, t in zip(ids_of, texts, strict=True) for _ in t]
    assert not model._forward_hooks
    assert not model.first._forward_hooks


def test_recording_again_appends_under_the_next_sequence(client: Client, name: str) -> None:
    model = Tiny()
    for seed in (1, 2):
        with client.record(model, sites=["first"], recording=name):
            model(padded(sequences(4, seed))[0])
    rows = sum(padded(sequences(4, seed))[0].numel() for seed in (1, 2))
    assert client.recording(name).rows == rows
    with pytest.raises(AlreadyExists):
        client.record(model, sites=["second"], recording=name)


def test_special_tokens_and_padding_have_no_rows(client: Client, name: str) -> None:
    class Tokenizer:
        all_special_ids = (1, 2)

        def get_vocab(self) -> dict[str, int]:
            return {f"t{i}": i for i in range(50)}

    model = Tiny()
    with client.record(model, Tokenizer(), sites=["first"], recording=name):
        model(torch.tensor([[1, 7, 8, 2, 0]]), torch.tensor([[1, 1, 1, 1, 0]]))
    with client.record(model, Tokenizer(), sites=["first"], recording=name):
        model(
            input_ids=torch.tensor([[1, 7, 8, 2, 0]]),
            attention_mask=torch.tensor([[1, 1, 1, 1, 0]]),
        )
    columns = client.tokens(name)
    assert columns.token_id.tolist() == [7, 8, 7, 8]
    assert columns.position.tolist() == [0, 1, 0, 1]
    assert client.vocabulary(name)[7] == "t7"


def test_an_unknown_site_lists_the_nearest(client: Client, name: str) -> None:
    with pytest.raises(UnknownSite, match="first"):
        client.record(Tiny(), sites=["frist"], recording=name)


def test_a_pass_without_tokens_is_counted_and_the_loop_goes_on(
    client: Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    model = Dense()
    with client.record(model, sites=["layer"], recording=name) as recorder:
        for _ in range(3):
            assert model(torch.zeros(2, 3, 4)).shape == (2, 3, 4)
    assert isinstance(recorder.error, ShapeError)
    assert recorder.counts.failed_passes == 3
    assert caplog.text.count("the loop goes on") == 1
    strict = client.record(
        model,
        sites=["layer"],
        recording=name,
        producer="strict",
        options=RecorderOptions(strict=True),
    )
    with pytest.raises(ShapeError, match="input_ids"), strict:
        model(torch.zeros(2, 3, 4))


def test_a_full_queue_drops_passes_and_counts_them(client: Client, name: str) -> None:
    model = Tiny()
    options = RecorderOptions(on_full="drop", queue_bytes=1, batch_rows=1 << 20)
    ids = torch.zeros(2, 5, dtype=torch.int64)
    with client.record(model, sites=["first"], recording=name, options=options) as recorder:
        for _ in range(6):
            model(ids)
    assert recorder.counts.passes == 6
    assert recorder.counts.dropped_passes == 5
    assert recorder.counts.rows == client.recording(name).rows == 10


def test_a_full_queue_holds_the_loop_back_where_it_is_told_to(client: Client, name: str) -> None:
    model = Tiny()
    options = RecorderOptions(on_full="block", queue_bytes=1, batch_rows=1)
    ids = torch.zeros(2, 5, dtype=torch.int64)
    with client.record(model, sites=["first"], recording=name, options=options) as recorder:
        for _ in range(6):
            model(ids)
    assert recorder.counts.durable_rows == client.recording(name).rows == 60


def test_a_recorder_is_entered_once_and_options_are_checked(client: Client, name: str) -> None:
    recorder = client.record(Tiny(), sites=["first"], recording=name)
    assert isinstance(recorder, Recorder)
    with recorder:
        pass
    with pytest.raises(Conflict, match=r"client\.record"):
        recorder.__enter__()
    with pytest.raises(InvalidInput, match="on_full"):
        RecorderOptions(on_full="spill")  # pyright: ignore[reportArgumentType]


def test_a_recorder_outlives_its_server_and_the_loop_outlives_the_recorder(tmp_path: Path) -> None:
    store = tmp_path / "store"
    server = start_server(store)
    client = isogloss.connect(store)
    model = Tiny()
    ids = torch.zeros(2, 5, dtype=torch.int64)
    options = RecorderOptions(batch_rows=1)
    try:
        with client.record(model, sites=["first"], recording="a", options=options) as recorder:
            model(ids)
            server.kill()
            model(ids)
            server = start_server(store)
            model(ids)
        assert recorder.error is None
        assert client.recording("a").rows == 30
    finally:
        client.close()
        server.kill()


# Documents.


def test_documents_are_recorded_once_however_often_it_is_broken_off(
    client: Client, name: str
) -> None:
    model = LoadedModel(module=Tiny(), name="tiny")
    texts = [*sequences(30), *sequences(5)]
    options = DocumentOptions(batch_rows=20)
    seen: list[RecordProgress] = []

    class BrokenOff(Exception):
        pass

    def break_off(progress: RecordProgress) -> None:
        seen.append(progress)
        if len(seen) == 3:
            raise BrokenOff

    with pytest.raises(BrokenOff):
        client.record_documents(
            model,
            texts,
            sites=["second"],
            recording=name,
            options=options,
            on_progress=break_off,
        )
    whole = sum(map(len, texts[:30]))
    assert client.recording(name).rows < whole
    for _ in range(2):
        info = client.record_documents(
            model, texts, sites=["second"], recording=name, options=options
        )
        assert info.rows == whole
    columns = client.tokens(name)
    np.testing.assert_array_equal(columns.token_id, np.concatenate(texts[:30]))
    with torch.inference_mode():
        wanted = torch.cat([model.module(torch.tensor([text]))[0] for text in texts[:30]])
    found = client.read(name, "second").astype(np.float32)
    np.testing.assert_allclose(found, wanted.to(torch.bfloat16).float().numpy(), rtol=0.01)


def test_a_recorder_of_one_thread_does_not_hold_up_another_client(
    client: Client, name: str
) -> None:
    model = Tiny()
    done = threading.Event()
    with client.record(model, sites=["first"], recording=name):
        model(torch.zeros(1, 4, dtype=torch.int64))
        thread = threading.Thread(target=lambda: (client.recordings(), done.set()))
        thread.start()
        assert done.wait(200)
        thread.join(200)
