"""Streams of the two clients: the right way, the right recording, and closed in the end."""

import asyncio
from pathlib import Path

import pytest
import torch
from tests.models.conftest import SENTENCES, byte_level
from torch import Tensor, nn

import isogloss
from isogloss import Client
from isogloss.errors import Conflict, NotFound
from isogloss.service.client.writing import AsyncAppender, AsyncRecorder, _Writer
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec("docs")


def test_streams_of_a_client_go_through_the_owner_or_past_it(local_client: Client) -> None:
    local_client.create_recording(SPEC, [])
    with local_client.appender("docs", "through") as appender:
        appender.write(sample_batch(SPEC, "through", 1))
        assert appender.route.startswith("through ")
        assert appender.producer == "through"
    for direct in (True, "auto"):
        with local_client.stream("docs", f"past-{direct}".lower(), direct=direct) as stream:
            assert not stream.route.startswith("through ")
    with local_client.stream("docs", "told", direct=False) as stream:
        assert stream.route.startswith("through ")
    with _Writer(local_client).stream("docs", "not-told") as stream:
        assert stream.route.startswith("through "), "unless it is told, as the recorders tell it"
    for open_it in (local_client.appender, local_client.stream):
        with pytest.raises(NotFound, match="lost"):
            open_it("lost", "p")


class Looked(nn.Module):
    """A table of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(len(byte_level()), 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.table(input_ids)


def test_an_asynchronous_recorder_is_told_steps_and_texts_and_tells_what_is_known(
    tmp_path: Path,
) -> None:
    model, tokenizer = Looked(), byte_level()
    texts = SENTENCES[:2]

    async def use() -> None:
        async with await isogloss.connect_async(tmp_path / "store", run_workers=False) as client:
            for run in range(2):
                recorder = await client.record(
                    model, tokenizer, sites=["table"], recording="a", step=4
                )
                assert isinstance(recorder, AsyncRecorder)
                assert await recorder.known(texts) == [run == 1] * 2
                async with recorder:
                    for text in texts:
                        with recorder.documents([text]):
                            model(torch.tensor([tokenizer(text)["input_ids"]]))
                    assert await recorder.flush()
                    assert await recorder.known(texts) == [True, True]
                    rows = (await client.recording("a")).rows
                    recorder.step = 5
                    assert recorder.step == 5
                    assert await recorder.known(texts) == [run == 1, False]
                    assert await recorder.known(texts, step=4) == [True, True]
                    with recorder.documents(texts[:1]):
                        model(torch.tensor([tokenizer(texts[0])["input_ids"]]))
                counts = recorder.counts
                assert recorder.error is None
                assert (counts.passes, counts.known_documents) == (3, 3 * run)
                assert counts.durable_rows == (0 if run else (await client.recording("a")).rows)
                assert run or counts.durable_rows > rows
            found = await client.documents("a")
            assert {document.text for document in found.values()} == set(texts)
            assert [info.step for info in await client.steps("a")] == [4, 5]

    asyncio.run(use())


def test_an_asynchronous_stream_flushes_in_the_end_unless_its_block_failed(
    tmp_path: Path,
) -> None:
    async def use() -> None:
        async with await isogloss.connect_async(tmp_path / "store", run_workers=False) as client:
            await client.create_recording(SPEC, [])
            async with await client.appender("docs", "p") as appender:
                assert isinstance(appender, AsyncAppender)
                assert (appender.next_sequence, appender.durable_sequence) == (1, 0)
                await appender.write(sample_batch(SPEC, "p", 1))
                assert appender.next_sequence == 2
                await appender.flush()
                assert appender.durable_sequence == 1
            with pytest.raises(Conflict, match="closed"):
                await appender.flush()
            other = await client.stream("docs", "q", direct=False)
            assert other.route.startswith("through ")
            await other.write(sample_batch(SPEC, "q", 1))
            await other.close()
            assert other.durable_sequence == 1
            with pytest.raises(ZeroDivisionError):
                async with await client.appender("docs", "r"):
                    raise ZeroDivisionError

    asyncio.run(use())
