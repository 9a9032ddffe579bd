"""What the recorder's thread does when the store stops, fills up, goes away or refuses."""

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.service.serving import server_on, start_server
from torch import Tensor, nn

import isogloss
from isogloss import Client
from isogloss.errors import DeadlineExceeded, IsoglossError, ResourceExhausted, StorageError
from isogloss.service.recording import queue
from isogloss.service.recording.appender import Appender
from isogloss.service.recording.options import RecorderOptions
from isogloss.store import Document, RowBatch

WIDTH = 4096


class Wide(nn.Module):
    """An embedding with rows of 16 KiB."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.table = nn.Embedding(600, WIDTH)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.table(input_ids)


def tokens(number: int, length: int = 256) -> Tensor:
    """Two sequences that no other number has; 8 MiB of rows."""
    ids = torch.arange(length).repeat(2, 1)
    ids[:, 0] = torch.tensor([2 * number, 2 * number + 1])
    return ids


def run(model: nn.Module, numbers: Iterable[int]) -> None:
    with torch.no_grad():
        for number in numbers:
            model(tokens(number))


def test_a_stopped_server_costs_passes_and_not_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue, "SAY_AFTER_S", 0.2)
    model = Wide()
    options = RecorderOptions(wait_s=1.5, queue_bytes=1, batch_rows=1)
    with server_on(tmp_path / "store") as server, isogloss.connect(tmp_path / "store") as client:
        recorder = client.record(
            model, sites=["table"], recording="a", dtype="float32", options=options
        )
        with recorder, torch.no_grad():
            model(tokens(0))
            while recorder.counts.durable_rows < 512:
                time.sleep(0.05)
            os.kill(server.process.pid, signal.SIGSTOP)
            try:
                for number in range(1, 25):
                    model(tokens(number))
                left_out = recorder.counts.failed_passes
                assert recorder.error is None
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
            while recorder.counts.durable_rows < recorder.counts.rows:
                time.sleep(0.05)
            model(tokens(30))
        counts = recorder.counts
        assert 0 < left_out < 24
        assert counts.rows == counts.durable_rows == client.recording("a").rows
        assert counts.rows == 512 * (counts.passes - left_out)
        assert client.documents("a").keys() >= {
            Document.from_token_ids(row).id for row in tokens(30).numpy()
        }
        assert "room in the recorder's queue" in "".join(counts.left_out)
        assert "waiting for room in the recorder's queue" in caplog.text


def test_a_recorder_is_left_though_its_server_stopped(tmp_path: Path) -> None:
    model = Wide()
    options = RecorderOptions(wait_s=1.0)
    with server_on(tmp_path / "store") as server, isogloss.connect(tmp_path / "store") as client:
        strict = client.record(
            model,
            sites=["table"],
            recording="a",
            example=tokens(0),
            options=replace(options, strict=True),
        )
        os.kill(server.process.pid, signal.SIGSTOP)
        with pytest.raises(DeadlineExceeded, match="durable"), strict:
            run(model, range(5))
        os.kill(server.process.pid, signal.SIGCONT)
        assert isinstance(strict.error, DeadlineExceeded)
        assert strict.counts.lost_rows + strict.counts.durable_rows == strict.counts.rows
        assert not model._forward_hooks


def test_a_flush_makes_rows_durable_or_says_that_they_are_not(tmp_path: Path) -> None:
    model = Wide()
    options = RecorderOptions(wait_s=1.5)
    with server_on(tmp_path / "store") as server, isogloss.connect(tmp_path / "store") as client:
        recorder = client.record(model, sites=["table"], recording="a", options=options)
        assert recorder.flush()  # nothing was seen yet
        with recorder:
            assert recorder.flush()
            run(model, range(2))
            assert recorder.flush()
            assert recorder.counts.durable_rows == client.recording("a").rows == 1024
            os.kill(server.process.pid, signal.SIGSTOP)
            try:
                run(model, [2])
                assert not recorder.flush()
                assert recorder.error is None
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
            run(model, [3])
            while not recorder.flush():
                assert recorder.error is None
            assert client.recording("a").rows == 2048
        assert recorder.flush()


def test_a_full_disk_is_told_and_what_was_acknowledged_stays(tmp_path: Path) -> None:
    model = Wide()
    options = RecorderOptions(batch_rows=1, wait_s=30)
    with (
        server_on(tmp_path / "store", "--full-after", "150"),
        isogloss.connect(tmp_path / "store") as client,
    ):
        with (
            client.record(model, sites=["table"], recording="a", options=options) as recorder,
            torch.no_grad(),
        ):
            for number in range(200):
                model(tokens(number, 8))
                while recorder.counts.durable_rows < recorder.counts.rows and not recorder.error:
                    time.sleep(0.005)
                if recorder.error is not None:
                    break
        counts = recorder.counts
        assert isinstance(recorder.error, StorageError)
        assert 0 < counts.durable_rows < counts.rows
        assert counts.durable_rows + counts.lost_rows == counts.rows
        assert client.recording("a").rows >= counts.durable_rows


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_server_that_goes_away_costs_what_it_did_not_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    def impatient(*args: object, **more: object) -> Appender:
        return Appender(*args, **{**more, "reconnect_s": 0.5})  # type: ignore[arg-type]

    monkeypatch.setattr("isogloss.service.recording.route.Appender", impatient)
    model, store = Wide(), tmp_path / "store"
    options = RecorderOptions(batch_rows=1)
    server = start_server(store)
    client = isogloss.connect(store)
    try:
        with (
            client.record(model, sites=["table"], recording="a", options=options) as recorder,
            torch.no_grad(),
        ):
            model(tokens(0))
            while recorder.counts.durable_rows < 512:
                time.sleep(0.05)
            server.kill()
            model(tokens(1))
            while recorder.error is None:
                time.sleep(0.05)
            model(tokens(2))
            if comes_back:
                server = start_server(store)
        counts = recorder.counts
        assert isinstance(recorder.error, IsoglossError)
        assert counts.failed_passes == 1
        assert (counts.rows, counts.durable_rows) == (1024, 1024 if comes_back else 512)
        assert counts.lost_rows == 1024 - counts.durable_rows
        if comes_back:
            assert client.recording("a").rows == 1024
    finally:
        client.close()
        server.kill()


def test_a_refused_batch_stops_recording_and_others_are_still_sent(
    local_client: Client, name: str
) -> None:
    model = Wide()
    with local_client.record(model, sites=["table"], recording=name), torch.no_grad():
        model(tokens(0, 4))
    other = Document.from_token_ids(tokens(5, 4)[0].numpy(), group="elsewhere")
    spec = local_client.recording(name).spec
    with local_client.stream(name, "other", direct=False) as stream:
        rows = np.zeros((1, WIDTH), spec.sites[0].numpy_dtype)
        stream.write(
            RowBatch(
                producer="other",
                sequence=1,
                sites={"table": rows},
                token_id=np.zeros(1, np.uint32),
                document=np.full(1, other.id, np.uint64),
                position=np.zeros(1, np.uint32),
                documents=(other,),
                step=9,
            )
        )
    before = local_client.recording(name).rows
    options = RecorderOptions(batch_rows=1)
    recorder = local_client.record(model, sites=["table"], recording=name, options=options)
    with recorder, torch.no_grad():
        for number in (4, 5, 6):  # of the second, one document is described otherwise
            model(tokens(number, 4))
    counts = recorder.counts
    assert isinstance(recorder.error, IsoglossError)
    assert "group" in str(recorder.error)
    assert counts.lost_rows > 0
    assert counts.durable_rows + counts.lost_rows == counts.rows
    assert local_client.recording(name).rows == before + counts.durable_rows
    assert set(local_client.documents(name)) >= {
        Document.from_token_ids(row).id for row in tokens(4, 4).numpy()
    }


def test_a_row_that_no_batch_can_hold_is_an_error_at_once(tmp_path: Path) -> None:
    model = Wide()
    with (
        server_on(tmp_path / "store", "--held-bytes", str(2 << 20)),
        isogloss.connect(tmp_path / "store") as client,
    ):
        with client.record(model, sites=["table"], recording="a") as recorder, torch.no_grad():
            model(tokens(0))
        assert recorder.error is None
        assert client.recording("a").rows == 512  # 4 MiB in batches that the server takes
    with (
        server_on(tmp_path / "small", "--held-bytes", str(1 << 20)),
        isogloss.connect(tmp_path / "small") as client,
    ):
        names = [f"layers.{i}" for i in range(80)]
        deep = Deep(80)
        with client.record(deep, sites=names, recording="a") as recorder, torch.no_grad():
            deep(tokens(0, 3))
        assert isinstance(recorder.error, ResourceExhausted)
        assert "fewer sites" in str(recorder.error)


class Deep(nn.Module):
    """Many wide sites."""

    def __init__(self, sites: int) -> None:
        super().__init__()
        self.table = nn.Embedding(600, 8192)
        self.layers = nn.ModuleList([nn.Identity() for _ in range(sites)])

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.table(input_ids)
        for layer in self.layers:
            x = layer(x)
        return x
