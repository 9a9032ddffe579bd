"""Recording live models and documents through both kinds of client."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.passes.test_reader import believed
from tests.service.serving import start_server
from tokenizers import Tokenizer as Words
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import isogloss
from isogloss import Client
from isogloss.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    ShapeError,
    UnknownSite,
)
from isogloss.models import LoadedModel, RecordProgress
from isogloss.models.passes import order_watch
from isogloss.service.recording.documents import DocumentOptions
from isogloss.service.recording.live.recorder import Recorder
from isogloss.service.recording.options import RecorderOptions
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
        for start in range(0, 40, 10):
            ids, mask = padded(texts[start : start + 10])
            out = model(input_ids=ids, attention_mask=mask)
            wanted.append(out.detach()[mask.bool()].to(torch.bfloat16))
            out.square().mean().backward()
            optimiser.step()
    rows = sum(map(len, texts))
    counts = recorder.counts
    assert recorder.error is None
    assert (counts.passes, counts.rows, counts.durable_rows) == (4, rows, rows)
    assert (dict(counts.left_out), counts.failed_passes, counts.lost_rows) == ({}, 0, 0)
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
            input_ids=torch.tensor([[1, 9, 8, 2, 0]]),
            attention_mask=torch.tensor([[1, 1, 1, 1, 0]]),
        )
    columns = client.tokens(name)
    assert columns.token_id.tolist() == [7, 8, 9, 8]
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
    assert recorder.error is None
    assert list(recorder.counts.left_out.values()) == [3]
    assert recorder.counts.failed_passes == 3
    assert caplog.text.count("the loop goes on") == 1
    assert "none of 3 passes was recorded" in caplog.text
    with pytest.raises(NotFound):  # a recorder that saw no rows leaves no recording
        client.recording(name)
    strict = client.record(
        model, sites=["layer"], recording=name, options=RecorderOptions(strict=True)
    )
    with pytest.raises(ShapeError, match="input_ids"), strict:
        model(torch.zeros(2, 3, 4))


def test_a_full_queue_holds_the_loop_back_where_it_is_told_to(client: Client, name: str) -> None:
    model = Tiny()
    options = RecorderOptions(on_full="block", queue_bytes=1, batch_rows=1)
    with client.record(model, sites=["first"], recording=name, options=options) as recorder:
        for i in range(6):
            model(torch.full((2, 5), i))
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
    options = RecorderOptions(batch_rows=1)
    try:
        with client.record(model, sites=["first"], recording="a", options=options) as recorder:
            model(torch.full((2, 5), 1))
            server.kill()
            model(torch.full((2, 5), 2))
            server = start_server(store)
            model(torch.full((2, 5), 3))
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


# Time in training, and what is left out.


def test_a_document_is_recorded_once_at_each_step_and_counted_when_it_comes_again(
    client: Client, name: str
) -> None:
    model = Tiny()
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    for run in range(2):
        with client.record(model, sites=["first"], recording=name, step=10) as recorder:
            assert recorder.known(ids.tolist()) == [run == 1] * 2
            for epoch in range(2):
                recorder.step = 10 + epoch
                model(ids)
                model(ids[:1])  # a part of it again, at one step
            assert recorder.step == 11
        found = recorder.counts
        assert (found.durable_rows, found.known_documents) == ((12, 2), (0, 6))[run]
    assert client.recording(name).rows == 12
    assert client.tokens(name).step.tolist() == [10] * 6 + [11] * 6
    options = RecorderOptions(again=True)
    with client.record(model, sites=["first"], recording=name, step=11, options=options):
        model(ids)
    assert client.recording(name).rows == 18


def test_outside_training_a_loop_that_shows_a_document_again_means_it(
    client: Client, name: str
) -> None:
    model, ids = Tiny(), torch.tensor([[1, 2, 3], [4, 5, 6]])
    for run in range(2):
        with client.record(model, sites=["first"], recording=name) as recorder:
            for _ in range(3):
                model(ids)
            recorder.step = 7
            for _ in range(3):
                model(ids)
        found = recorder.counts
        assert (found.durable_rows, found.known_documents) == ((24, 4), (0, 12))[run]
    assert client.tokens(name).step.tolist() == [0] * 18 + [7] * 6


def test_steps_come_from_the_loop_and_only_some_are_recorded(
    local_client: Client, name: str
) -> None:
    model, now = Tiny(), [0]
    options = RecorderOptions(every=3)
    recorder = local_client.record(
        model, sites=["first"], recording=name, step=lambda: now[0], options=options
    )
    with recorder:
        for step in range(7):
            now[0] = step
            model(torch.full((1, 4), step))
    assert local_client.tokens(name).step.tolist() == [0] * 4 + [3] * 4 + [6] * 4
    assert recorder.counts.passes == 7
    with pytest.raises(InvalidInput, match=r"step is -1, wanted .*the training step"):
        local_client.record(model, sites=["first"], recording="no-step", step=-1)
    odd = local_client.record(model, sites=["first"], recording="no-step", step=lambda: -1)
    with odd:
        model(torch.full((1, 4), 1))
    (reason,) = odd.counts.left_out
    assert "the training step" in reason
    assert odd.counts.examples[reason].startswith("step is -1, wanted")


@pytest.mark.parametrize("step", [2.5, 3.0, True, "3", None, torch.tensor(2.0)], ids=repr)
def test_what_is_no_training_step_costs_its_pass_and_is_said(
    local_client: Client, name: str, step: object
) -> None:
    model = Tiny()
    with local_client.record(model, sites=["first"], recording=name, step=1) as recorder:
        model(torch.full((1, 4), 1))
        recorder.step = step  # type: ignore[assignment]
        model(torch.full((1, 4), 2))
        for _ in range(2):
            recorder.step = torch.tensor(4)  # type: ignore[assignment]
            model(torch.full((1, 4), 3))
    assert recorder.error is None
    assert sum(recorder.counts.left_out.values()) == 1
    assert local_client.tokens(name).step.tolist() == [1] * 4 + [4] * 4


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_generation_is_one_document_a_sequence(
    local_client: Client, name: str, use_cache: bool
) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    model = GPT2LMHeadModel(config).eval()
    prompts = torch.tensor([[9, 8, 7], [4, 3, 5]])
    with local_client.record(model, sites=["transformer.h.1"], recording=name) as recorder:
        texts = model.generate(  # pyright: ignore[reportAttributeAccessIssue] - a mixin
            input_ids=prompts, attention_mask=torch.ones_like(prompts), use_cache=use_cache,
            max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=0,
        )  # fmt: skip
    assert dict(recorder.counts.left_out) == {}
    columns = local_client.tokens(name)
    wanted = [Document.from_token_ids(text[:-1]).id for text in texts]
    assert columns.document.tolist() == [found for found in wanted for _ in range(7)]
    assert columns.position.tolist() == [*range(7)] * 2


def test_who_lost_the_producer_to_another_counts_no_rows_of_the_other_as_its_own(
    local_client: Client, name: str
) -> None:
    one, other = (local_client.record(Tiny(), sites=["first"], recording=name) for _ in range(2))
    with one:
        one._module(torch.full((1, 4), 1))  # pyright: ignore[reportPrivateUsage]
        one.flush()
        with other:
            for number in range(3):
                other._module(torch.full((1, 4), 10 + number))  # pyright: ignore[reportPrivateUsage]
        one._module(torch.full((1, 4), 5))  # pyright: ignore[reportPrivateUsage]
    mine, theirs = one.counts, other.counts
    stored = local_client.recording(name).rows
    assert mine.durable_rows + theirs.durable_rows == stored
    assert mine.rows == mine.durable_rows + mine.lost_rows


def test_a_recording_holds_one_mode_and_says_which(local_client: Client, name: str) -> None:
    class Dropping(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.25)

    model = Dropping().train()
    with local_client.record(model, sites=["first"], recording=name) as recorder:
        model(torch.full((1, 4), 1))
        model.eval()
        model(torch.full((1, 4), 2))
        model.train()
        model(torch.full((1, 4), 3))
    assert dict(local_client.recording(name).spec.provenance) == {
        "mode": "train",
        "dropout": "0.25",
    }
    (reason,) = recorder.counts.left_out
    assert "eval mode" in reason
    assert set(local_client.tokens(name).token_id.tolist()) == {1, 3}


@pytest.mark.parametrize("skip", [1, 3])
def test_first_tokens_are_left_out_both_ways(local_client: Client, name: str, skip: int) -> None:
    model, texts = Tiny(), [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11]]
    ids, mask = padded(texts)
    with local_client.record(model, sites=["first"], recording=f"{name}-l", skip_first=skip):
        model(input_ids=ids, attention_mask=mask)
    local_client.record_documents(
        LoadedModel(module=model, name="tiny"),
        texts,
        sites=["first"],
        recording=f"{name}-d",
        options=DocumentOptions(skip_first=skip),
    )
    for way in "ld":
        columns = local_client.tokens(f"{name}-{way}")
        assert columns.token_id.tolist() == [i for text in texts for i in text[skip:]]
        assert columns.position.tolist() == [i for t in texts for i in range(skip, len(t))]
        provenance = local_client.recording(f"{name}-{way}").spec.provenance
        assert provenance["skip_first"] == str(skip)
    with pytest.raises(InvalidInput, match="skip_first"):
        DocumentOptions(skip_first=-1)


def test_overflow_is_counted_and_said_both_ways(
    local_client: Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Large(Tiny):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            return self.first(self.embedding(input_ids) * 0 + 1e6)

    model, seen = Large(), list[RecordProgress]()
    model.first.weight.data.zero_().fill_diagonal_(1.0)
    model.first.weight.data[0] = 0
    texts = [[1, 2, 5], [3, 4, 6]]
    recorder = local_client.record(model, sites=["first"], recording=f"{name}-l", dtype="float16")
    with recorder:
        model(torch.tensor(texts))
    local_client.record_documents(
        LoadedModel(module=model, name="tiny"),
        texts,
        sites=["first"],
        recording=f"{name}-d",
        options=DocumentOptions(dtype="float16"),
        on_progress=seen.append,
    )
    assert dict(recorder.counts.overflows) == dict(seen[-1].overflows) == {"first": 6 * 11}
    assert caplog.text.count("finite in the model and infinite as float16") == 2


def test_a_share_of_the_documents_is_recorded_the_same_for_each_model(
    local_client: Client,
) -> None:
    options = RecorderOptions(sample=0.5)
    kept: list[set[int]] = []
    for site in ("first", "second"):
        recorder = local_client.record(
            Tiny(), sites=[site], recording=f"share-{site}", options=options
        )
        with recorder:
            for i in range(50):
                recorder._module(torch.tensor([[i % 50, 1, 2], [i % 50, 3, 4]]))
        kept.append(set(local_client.documents(f"share-{site}")))
        assert recorder.counts.sampled_out == 100 - len(kept[-1])
        assert local_client.recording(f"share-{site}").spec.provenance["sample"] == "0.5"
    assert kept[0] == kept[1]
    assert 25 < len(kept[0]) < 75


def test_one_odd_pass_costs_itself_alone(local_client: Client, name: str) -> None:
    class Odd(Tiny):
        skips = False

        def forward(
            self,
            input_ids: Tensor | None = None,
            attention_mask: Tensor | None = None,
            inputs_embeds: Tensor | None = None,
        ) -> Tensor:
            x = inputs_embeds if input_ids is None else self.embedding(input_ids)
            assert x is not None
            return x if self.skips else self.second(self.first(x))

    model = Odd()

    def without_site() -> None:
        model.skips = True
        model(torch.full((1, 3), 7))
        model.skips = False

    odd = [
        lambda: model(inputs_embeds=torch.zeros(1, 3, 12)),
        lambda: model(torch.tensor([1, 2, 3])),
        without_site,
    ]
    with local_client.record(model, sites=["first"], recording=name) as recorder:
        for number in range(12):
            if number % 4 == 2:
                odd[number // 4]()
            model(torch.full((1, 3), 20 + number))
    counts = recorder.counts
    assert recorder.error is None
    assert (counts.passes, counts.failed_passes, len(counts.left_out)) == (15, 3, 3)
    assert sorted(set(local_client.tokens(name).token_id.tolist())) == list(range(20, 32))


class Translator(nn.Module):
    """A plain encoder-decoder whose embeddings are in the root."""

    def __init__(self, *, hides: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.src_embed, self.tgt_embed = nn.Embedding(50, 8), nn.Embedding(50, 8)
        self.net = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
        self.hides = hides

    def forward(
        self, src: Tensor, tgt: Tensor, tgt_key_padding_mask: Tensor | None = None
    ) -> Tensor:
        one, other = self.src_embed(src), self.tgt_embed(tgt)
        if self.hides:  # no axes are followed through it
            one, other = (torch.from_numpy(x.detach().numpy().copy()) for x in (one, other))
        return self.net(one, other)


class TypesFirst(nn.Module):
    """Its first whole numbers are no token ids."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.words, self.types = nn.Embedding(50, 8), nn.Embedding(2, 8)
        self.net = nn.Linear(8, 6)

    def forward(self, token_type_ids: Tensor, tokens: Tensor) -> Tensor:
        return self.net(self.words(tokens) + self.types(token_type_ids))


class TimeFirst(nn.Module):
    """Takes ``[tokens, texts]``, as torch's own recurrent modules do."""

    def __init__(self, *, hides: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.words, self.net, self.hides = nn.Embedding(50, 8), nn.LSTM(8, 8), hides

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x)
        return self.net(torch.from_numpy(x.detach().numpy().copy()) if self.hides else x)[0]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_rows_carry_the_ids_that_their_site_read_both_ways(local_client: Client, name: str) -> None:
    src, tgt = torch.arange(1, 13).reshape(3, 4), torch.arange(20, 32).reshape(3, 4)
    kinds, shorter = torch.ones(3, 4).long(), tgt[:, :3]
    cases: list[tuple[nn.Module, str, Sequence[Sequence[Tensor]], list[Tensor]]] = [
        (Translator(), "net.decoder", [(src, tgt), (src, shorter)], [tgt, shorter]),
        (Translator(), "net.encoder", [(src, tgt), (src + 1, shorter)], [src, src + 1]),
        (TypesFirst(), "net", [(kinds, src)], [src]),
        (TimeFirst(), "net", [(src[:, :3].T,), (tgt.T,)], [src[:, :3], tgt]),
    ]
    for i, (model, site, passes, wanted) in enumerate(cases):
        recording = f"{name}-{i}"
        with (
            local_client.record(
                model, sites=[site], recording=recording, dtype="float32"
            ) as recorder,
            torch.no_grad(),
        ):
            for given in passes:
                model(*given)
        assert not recorder.counts.failed_passes, recorder.counts.left_out
        columns = local_client.tokens(recording)
        assert columns.token_id.tolist() == [t for ids in wanted for t in ids.flatten().tolist()]
        places = [range(ids.shape[1]) for ids in wanted for _ in ids]
        assert columns.position.tolist() == [place for some in places for place in some]
        loaded = LoadedModel(module=model, name="m")
        with pytest.raises(InvalidInput, match="token ids"):
            local_client.record_documents(
                loaded, src.tolist(), sites=[site], recording=f"{name[:50]}-d{i}"
            )


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_what_no_pass_tells_is_left_out_with_the_remedy(
    local_client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_watch, "is_of_library", believed)
    src, tgt = torch.arange(1, 13).reshape(3, 4), torch.arange(20, 32).reshape(3, 4)
    cases = [
        (Translator(hides=True), "net.decoder", (src, tgt), "those of 'src' or of 'tgt'; run a"),
        (TimeFirst(hides=True), "net", (src[:, :3],), "run batches of another size or length"),
    ]
    for i, (model, site, given, said) in enumerate(cases):
        with local_client.record(model, sites=[site], recording=f"{name}-{i}") as recorder:
            model(*given)
        assert (recorder.counts.passes, recorder.counts.rows) == (1, 0)
        assert any(said in reason for reason in recorder.counts.left_out)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_a_pass_left_out_late_costs_the_texts_of_its_own_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_watch, "is_of_library", believed)
    words = [f"w{i}" for i in range(50)]
    tokenizer = Words(WordLevel({word: i for i, word in enumerate(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    model, waits, is_over = Translator(hides=True), threading.Event(), threading.Event()

    def ids(text: str) -> Tensor:
        return torch.tensor([tokenizer.encode(text).ids])

    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        with client.record(model, tokenizer, sites=["net.decoder"], recording="a") as recorder:

            def other() -> None:  # the mask of its text is odd, which text that is not known yet
                text, odd = "w1 w2 w3", torch.full((1, 3), -0.5)
                with torch.no_grad(), recorder.documents([text]):
                    model(ids("w9 w9 w9"), ids(text), odd)
                    waits.set()
                    is_over.wait(60)

            thread = threading.Thread(target=other)
            thread.start()
            waits.wait(60)
            own = ["w4 w5 w6 w7", "w8 w9"]
            with torch.no_grad(), recorder.documents(own):
                for text in own:  # the first tells which text it is
                    model(ids("w9 w9 w9"), ids(text))
            is_over.set()
            thread.join()
        assert list(recorder.counts.left_out.values()) == [1]
        assert any("key_padding_mask holds values" in reason for reason in recorder.counts.left_out)
        assert set(client.documents("a")) == {Document.from_text(text).id for text in own}


def test_weights_that_change_within_a_step_are_counted_and_said_once(
    local_client: Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])

    def run(recording: str, step: int | None, *, moves: bool, trains: bool = True) -> int:
        model = Tiny()
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        with local_client.record(
            model, sites=["first"], recording=recording, step=step
        ) as recorder:
            for number in range(3):
                if moves:
                    recorder.step = number
                for _ in range(2):  # micro-batches of one update
                    model(ids).square().mean().backward()
                if trains:
                    optimiser.step()
        assert recorder.error is None
        return recorder.counts.changed_weights

    assert run(f"{name[:20]}-a", 0, moves=True) == 0
    assert run(f"{name[:20]}-b", None, moves=False, trains=False) == 0
    assert "weights" not in caplog.text
    assert run(f"{name[:20]}-c", None, moves=False) == 4
    assert caplog.text.count("the weights of the model changed between passes") == 1
    assert run(f"{name[:20]}-d", 5, moves=False) == 4  # named, and not moved on


def test_a_document_is_stored_once_in_one_pass_of_a_named_step(client: Client, name: str) -> None:
    model, ids = Tiny(), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 4]])
    with client.record(model, sites=["first"], recording=name, step=7) as recorder:
        model(ids)
    assert recorder.counts.durable_rows == 8
    assert recorder.counts.known_documents == 1
    assert client.tokens(name).token_id.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    again = RecorderOptions(again=True)
    with client.record(model, sites=["first"], recording=name, step=7, options=again):
        model(ids)
    assert client.recording(name).rows == 20


def test_a_document_of_two_ranks_at_once_is_counted_and_can_be_left_out(
    client: Client, name: str
) -> None:
    model, ids = Tiny(), torch.tensor([[1, 2, 3], [4, 5, 6]])
    ranks = [
        client.record(model, sites=["first"], recording=name, step=7, producer=f"rank-{rank}")
        for rank in range(2)
    ]
    for rank in ranks:
        rank.open({"first": 12})
        assert rank.known(ids.tolist()) == [False, False]  # neither knows of the other
    for rank, own in zip(ranks, (ids, ids[:1]), strict=True):
        with rank:
            model(own)
    (found,) = client.steps(name)
    assert (found.rows, found.documents, found.repeated_rows) == (9, 2, 3)
    columns = client.tokens(name)
    assert columns.token_id.tolist() == [1, 2, 3, 4, 5, 6, 1, 2, 3]


def test_what_waits_in_the_queue_is_known(local_client: Client, name: str) -> None:
    model, ids = Tiny(), torch.tensor([[1, 2, 3], [4, 5, 6]])
    recorder = local_client.record(model, sites=["first"], recording=name, step=7)
    is_held = threading.Event()
    send, recorder._sender._send = recorder._sender._send, lambda queued: is_held.wait(60)  # type: ignore[method-assign]
    with recorder:
        model(ids)
        assert recorder.known([[1, 2, 3], [4, 5, 6], [7]]) == [True, True, False]
        assert recorder.known([[1, 2, 3]], step=8) == [False]
        model(torch.tensor([[7]]))
        assert recorder.known([[7]]) == [True]
        recorder._sender._send = send  # type: ignore[method-assign]
        is_held.set()


class Dropping(Tiny):
    """Has dropout, and takes two modes."""

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        self.drop = nn.Dropout(share)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.second(self.drop(self.first(self.embedding(input_ids))))


@pytest.mark.parametrize(
    ("modes", "shares", "said"),
    [
        ((False, True), (0.5, 0.5), "ran in train mode and the recording holds passes in eval"),
        ((True, False), (0.5, 0.5), "ran in eval mode and the recording holds passes in train"),
        ((True, True), (0.5, 0.25), "dropout of N.N and the recording holds passes with N.N"),
    ],
)
def test_two_recorders_that_begin_before_the_recording_exists_agree_on_its_mode(
    tmp_path: Path, modes: tuple[bool, bool], shares: tuple[float, float], said: str
) -> None:
    models = [Dropping(share).train(mode) for share, mode in zip(shares, modes, strict=True)]
    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        recorders = [
            client.record(model, sites=["second"], recording="a", producer=f"p{i}")
            for i, model in enumerate(models)
        ]
        with recorders[0], recorders[1]:
            for i, (model, recorder) in enumerate(zip(models, recorders, strict=True)):
                for number in range(2):
                    model(torch.tensor([[1 + 10 * i + number, 2, 3]]))
                recorder.flush()
        counts = [recorder.counts for recorder in recorders]
        assert counts[0].durable_rows == 6
        assert (counts[1].durable_rows, counts[1].failed_passes) == (0, 2)
        assert all(said in reason for reason in counts[1].left_out)
        assert client.recording("a").rows == 6


def test_each_thread_says_the_texts_of_its_own_passes(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(40)]
    tokenizer = Words(WordLevel({word: i for i, word in enumerate(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    texts = [[" ".join(words[i : i + 2 + i % 3]) for i in range(t, 30, 2)] for t in range(2)]
    model, start = Tiny(), threading.Barrier(2)
    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        with client.record(model, tokenizer, sites=["first"], recording="a") as recorder:

            def loop(own: list[str]) -> None:
                with torch.no_grad(), recorder.documents(own):
                    for text in own:
                        start.wait(60)
                        model(torch.tensor([tokenizer.encode(text).ids]))

            threads = [threading.Thread(target=loop, args=(own,)) for own in texts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not recorder.counts.left_out
        assert recorder.counts.without_text == 0
        found = set(client.documents("a"))
    assert found == {Document.from_text(text).id for own in texts for text in own}
