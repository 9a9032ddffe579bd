"""Streams of the two clients: the right way, the right recording, and closed in the end."""

import asyncio
from pathlib import Path

import pytest

import isogloss
from isogloss import Client
from isogloss.errors import Conflict, NotFound
from isogloss.service.client.writing import AsyncAppender
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
    for open_it in (local_client.appender, local_client.stream):
        with pytest.raises(NotFound, match="lost"):
            open_it("lost", "p")


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
