"""One Append on the server: when its client is told what."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.service.ingest.producing import SPEC, encoded, parts

from isogloss.errors import InvalidInput
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.ingest.ingest import Ingest, Session
from isogloss.service.server import append_call
from isogloss.service.server.append_call import AppendCall
from isogloss.service.server.call_limits import CallLimits
from isogloss.service.server.loop_wakes import LoopWakes
from isogloss.service.wire import framing
from isogloss.store import Store
from isogloss.store.testing import sample_batch


class Client:
    """Sends what it is told to, and hears the acknowledgements."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.heard: list[pb.AppendResponse] = []

    def send(self, sequence: int) -> None:
        for part in parts(encoded(sample_batch(SPEC, "p", sequence)), sequence):
            self._messages.put_nowait(framing.encode(part))

    def send_raw(self, message: bytes) -> None:
        self._messages.put_nowait(message)

    def end(self) -> None:
        self._messages.put_nowait(None)

    async def requests(self) -> AsyncIterator[bytes]:
        while (message := await self._messages.get()) is not None:
            yield message

    async def until_durable(self, sequence: int) -> None:
        while not self.heard or self.heard[-1].durable < sequence:
            await asyncio.sleep(0.001)


@asynccontextmanager
async def appending(directory: Path) -> AsyncGenerator[tuple[Client, "asyncio.Task[None]"]]:
    """A call into a store of its own, and the task that hears its acknowledgements."""
    with Store.open(directory / "store") as store:
        store.create_recording(SPEC, ["a"])
        ingest, client = Ingest(store), Client()
        call = AppendCall(client.requests(), asyncio.Event(), CallLimits(), LoopWakes())

        async def start(notify: Callable[[], None]) -> Session:
            return ingest.open("sample", "p", notify)

        async def hear() -> None:
            async for acknowledgement in call.acknowledgements():
                client.heard.append(acknowledgement)

        await call.open(start)
        hearing = asyncio.create_task(hear())
        try:
            yield client, hearing
        finally:
            hearing.cancel()
            await asyncio.wait([hearing])
            call.close()
            await asyncio.to_thread(ingest.close)


def test_who_waits_for_each_batch_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_call, "_DURABLE_S", 3600.0)
    monkeypatch.setattr(append_call, "_RECEIVED_S", 3600.0)

    async def go() -> None:
        async with appending(tmp_path) as (client, _):
            for sequence in range(1, 6):
                client.send(sequence)
                await asyncio.wait_for(client.until_durable(sequence), 60)
            assert [found.durable for found in client.heard] == [0, 1, 2, 3, 4, 5]

    asyncio.run(go())


def test_who_sends_on_is_told_of_several_batches_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_call, "_DURABLE_S", 0.3)

    async def go() -> None:
        async with appending(tmp_path) as (client, _):
            for sequence in range(1, 41):
                client.send(sequence)
            await asyncio.wait_for(client.until_durable(40), 60)
            assert len(client.heard) < 10
            client.end()

    asyncio.run(go())


def test_the_end_of_the_stream_is_not_waited_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_call, "_DURABLE_S", 3600.0)
    monkeypatch.setattr(append_call, "_RECEIVED_S", 3600.0)

    async def go() -> None:
        async with appending(tmp_path) as (client, hearing):
            for sequence in range(1, 9):
                client.send(sequence)
            client.end()
            await asyncio.wait_for(hearing, 60)
            assert client.heard[-1].durable == 8

    asyncio.run(go())


def test_an_error_of_the_reading_is_looked_at_though_its_client_has_left(tmp_path: Path) -> None:
    complaints: list[dict[str, object]] = []

    async def go() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with appending(tmp_path) as (client, hearing):
            hearing.cancel()
            await asyncio.wait([hearing])
            (part,) = parts(encoded(sample_batch(SPEC, "p", 1)), 1)
            part.head.xxh3 = 5
            client.send_raw(framing.encode(part))
            await asyncio.sleep(0.1)

    asyncio.run(go())
    assert complaints == []


def test_an_error_of_the_reading_ends_the_call(tmp_path: Path) -> None:
    async def go() -> None:
        async with appending(tmp_path) as (client, hearing):
            (part,) = parts(encoded(sample_batch(SPEC, "p", 1)), 1)
            part.head.xxh3 = 5
            client.send_raw(framing.encode(part))
            with pytest.raises(InvalidInput, match="checksum"):
                await asyncio.wait_for(hearing, 60)

    asyncio.run(go())
