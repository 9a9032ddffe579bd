"""Live models and documents recorded past the server, by both clients."""

import asyncio
import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.conftest import SENTENCES
from tests.service.recording.live.test_recorder import Tiny, padded, sequences
from tests.tiny_models import save_tiny_bert

import isogloss
from isogloss import Client
from isogloss.errors import NotPermitted
from isogloss.models import LoadedModel
from isogloss.service.cli import main
from isogloss.service.recording.documents import DocumentOptions
from isogloss.store.testing import sample_batch, sample_spec


def test_a_live_model_is_recorded_past_the_server(client: Client, name: str) -> None:
    model = Tiny()
    texts = sequences(16)
    ids, mask = padded(texts)
    with client.record(model, sites=["second"], recording=name, direct=True) as recorder:
        wanted = model(input_ids=ids, attention_mask=mask).detach()[mask.bool()]
    assert recorder.error is None
    assert recorder.route.startswith("direct, lane ")
    assert recorder.counts.durable_rows == sum(map(len, texts))
    found = client.read(name, "second").astype(np.float32)
    np.testing.assert_array_equal(found, wanted.to(torch.bfloat16).float().numpy())
    assert [lane.direct for lane in client.lanes(name)] == [True]


def test_storage_that_is_mounted_elsewhere_is_named(
    remote_client: Client, served_store: Path, tmp_path: Path
) -> None:
    client, name = remote_client, "mounted"
    model, texts = Tiny(), sequences(6)
    ids, mask = padded(texts)
    mounted = tmp_path / "mounted"
    mounted.symlink_to(served_store)
    with client.record(
        model, sites=["second"], recording=name, direct=True, root=mounted
    ) as recorder:
        model(input_ids=ids, attention_mask=mask)
    assert recorder.counts.durable_rows == sum(map(len, texts))
    options = DocumentOptions(direct=True, root=mounted)
    loaded = LoadedModel(module=model, name="tiny")
    made = client.record_documents(
        loaded, texts, sites=["second"], recording="mounted-documents", options=options
    )
    assert made.rows == sum(map(len, texts))
    assert [lane.direct for lane in client.lanes(made.id)] == [True]
    with pytest.raises(NotPermitted, match="say where it is mounted here"):
        client.record(model, sites=["second"], recording=name, direct=True, root=tmp_path)
    options = DocumentOptions(direct=True, root=tmp_path)
    with pytest.raises(NotPermitted, match="does not show the storage"):
        client.record_documents(loaded, texts, sites=["second"], recording=made.id, options=options)


def test_documents_are_recorded_past_the_server_once(client: Client, name: str) -> None:
    model = LoadedModel(module=Tiny(), name="tiny")
    texts = sequences(20)
    routes: list[str] = []
    for direct in (True, "auto"):
        info = client.record_documents(
            model,
            texts,
            sites=["second"],
            recording=name,
            options=DocumentOptions(direct=direct, batch_rows=20),  # type: ignore[arg-type]
            on_route=routes.append,
        )
        assert info.rows == sum(map(len, texts))
    assert [route.startswith("direct, lane ") for route in routes] == [True, True]


def test_the_asynchronous_client_records_and_streams(served_store: Path) -> None:
    model = Tiny()
    texts = sequences(8)
    ids, mask = padded(texts)
    rows = sum(map(len, texts))

    async def use() -> None:
        async with await isogloss.connect_async(served_store) as client:
            for direct in (False, True):
                name = f"async-{direct}".lower()
                root = served_store if direct else None
                recorder = await client.record(
                    model, sites=["second"], recording=name, direct=direct, root=root
                )
                async with recorder:
                    model(input_ids=ids, attention_mask=mask)
                assert recorder.error is None
                assert recorder.route.startswith("direct" if direct else "through")
                assert recorder.counts.durable_rows == rows
                assert (await client.recording(name)).rows == rows
                info = await client.record_documents(
                    LoadedModel(module=model, name="tiny"),
                    texts,
                    sites=["second"],
                    recording=f"{name}-documents",
                    options=DocumentOptions(direct=direct),
                )
                assert info.rows == rows
            spec = sample_spec("async-stream")
            await client.create_recording(spec, ["a"])
            async with await client.stream("async-stream", "p", direct=True) as stream:
                await stream.write(sample_batch(spec, "p", stream.next_sequence))
                await stream.flush()
                assert stream.durable_sequence == 1
                assert stream.route.startswith("direct")
            hung = await client.stream("async-stream", "p", direct=True)
            lane = hung.route.rpartition(" ")[2]
            assert await client.end_direct_lane("async-stream", lane) == {}
            await hung.close()

    asyncio.run(use())


def test_the_command_line_records_past_the_server_and_says_so(
    served_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = save_tiny_bert(tmp_path / "tiny", seed=0, width=32)
    text = tmp_path / "text.txt"
    text.write_text(" ".join(SENTENCES), encoding="utf-8")
    words = ["record", str(model), str(text), "--site", "encoder.layer.0", "--recording", "cli"]
    words += ["--store", str(served_store), "--root", str(served_store)]
    monkeypatch.setattr(sys, "argv", ["isogloss", *words])
    with contextlib.suppress(SystemExit):
        main.main()
    said = capsys.readouterr().out
    with isogloss.connect(served_store) as client:
        (lane,) = client.lanes("cli")
        rows = client.recording("cli").rows
    assert lane.direct
    assert rows > 20
    assert said == f"recording cli: {rows:,} rows at 1 site(s), written direct, lane {lane.name}\n"
