"""What a server answers itself, what it forwards, and what it has checked first."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from tests.service.ingest.producing import encoded
from tests.service.ingest.producing import parts as in_parts

from isogloss.errors import InvalidInput
from isogloss.proto.v1 import dictionaries_pb2, recordings_pb2
from isogloss.service.calls.all import QUERIES, ControlHandlers
from isogloss.service.calls.caller import block_bytes
from isogloss.service.calls.table import Streaming
from isogloss.service.control.owner import Owner
from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.server import grpc_calls
from isogloss.service.server.call_limits import CallLimits
from isogloss.service.server.grpc_calls import Calls, Forward
from isogloss.service.transport.over_grpc import AsyncGrpcTransport
from isogloss.service.wire import framing
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import Method, method_of
from isogloss.store import Store
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec("sample")
GET = method_of(recordings_pb2.GetRecordingRequest, recordings_pb2.Recording)
READ = method_of(recordings_pb2.ReadRequest, recordings_pb2.ReadResponse)
APPEND = method_of(recordings_pb2.AppendRequest, recordings_pb2.AppendResponse)
ENCODE = method_of(dictionaries_pb2.EncodeRequest, dictionaries_pb2.EncodeResponse)
_EOF = getattr(grpc.aio, "EOF")  # noqa: B009 - the stubs lack it


class OtherProcess:
    """Answers Encode, and checks GetRecording: refuses one name, and changes another."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    async def forward(self, path: str, raw: bytes, timeout_s: float | None) -> bytes:
        assert timeout_s is None or timeout_s > 0
        self.asked.append((path, raw))
        if path == ENCODE.path:
            return dictionaries_pb2.EncodeResponse(k=7).SerializeToString()
        request = recordings_pb2.GetRecordingRequest.FromString(raw)
        if request.name == "recordings/bad":
            raise InvalidInput("checked and refused")
        return recordings_pb2.GetRecordingRequest(name="recordings/sample").SerializeToString()


async def refuse_forwarding(path: str, raw: bytes, timeout_s: float | None) -> bytes:
    raise AssertionError(path)


@asynccontextmanager
async def serving(
    directory: Path,
    forward: Forward = refuse_forwarding,
    checked: Sequence[str] = (),
    streaming: Sequence[Streaming] = (),
    limits: CallLimits | None = None,
    sessions: int = 512,
    held_bytes: int = 256 << 20,
    made: list[Calls] | None = None,
) -> AsyncGenerator[str]:
    """A server in this process with one recording; its address. Its calls are put into a list."""
    taken = IngestLimits(sessions=sessions, held_bytes=held_bytes)
    with Owner(Store.open(directory / "store"), run_workers=False, limits=taken) as owner:
        owner.store.create_recording(SPEC, ["a"])
        handlers = ControlHandlers(owner)
        handlers.streaming |= {stream.method.path: stream for stream in streaming}
        calls = Calls(handlers, forward, forwarded=QUERIES, checked=checked, limits=limits)
        if made is not None:
            made.append(calls)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(calls.generic_handlers())
        address = f"unix:{directory}/s"
        server.add_insecure_port(address)
        await server.start()
        try:
            yield address
        finally:
            await server.stop(None)
            calls.close()


def test_a_request_is_checked_by_the_other_process_before_it_is_answered_here(
    tmp_path: Path,
) -> None:
    other = OtherProcess()

    async def go() -> None:
        async with serving(tmp_path, other.forward, [GET.path]) as address:
            transport = AsyncGrpcTransport(address)
            try:
                await use(transport)
            finally:
                await transport.close()

    async def use(transport: AsyncGrpcTransport) -> None:
        async def ask(method: Method, **fields: str) -> object:
            return await transport.unary(method, method.request(**fields), 20)

        found = await ask(GET, name="recordings/changed")
        assert isinstance(found, recordings_pb2.Recording)
        assert found.name == "recordings/sample"
        with pytest.raises(InvalidInput, match="checked and refused"):
            await ask(GET, name="recordings/bad")
        assert await ask(ENCODE, name="a") == dictionaries_pb2.EncodeResponse(k=7)

    asyncio.run(go())
    assert [path for path, _ in other.asked] == [GET.path, GET.path, ENCODE.path]
    assert other.asked[-1][1] == dictionaries_pb2.EncodeRequest(name="a").SerializeToString()


def appending(sequences: Sequence[int], parts: int = 3, producer: str = "p") -> list[bytes]:
    """The messages of a stream that appends batches in parts, its header first."""
    messages = [
        recordings_pb2.AppendRequest(
            header=recordings_pb2.AppendHeader(recording="recordings/sample", producer=producer)
        ).SerializeToString()
    ]
    for sequence in sequences:
        content = encoded(sample_batch(SPEC, "p", sequence))
        messages += [framing.encode(part) for part in in_parts(content, sequence, parts)]
    return messages


def test_batches_in_parts_are_acknowledged_once_they_are_durable(tmp_path: Path) -> None:
    async def go() -> None:
        async with serving(tmp_path) as address, grpc.aio.insecure_channel(address) as channel:
            call = channel.stream_stream(APPEND.path)(iter(appending([1, 2, 3])), timeout=120)
            found = [recordings_pb2.AppendResponse.FromString(raw) async for raw in call]
            assert (found[0].durable, found[-1].durable) == (0, 3)
            rows = sum(sample_batch(SPEC, "p", sequence).rows for sequence in (1, 2, 3))
            assert found[-1].rows == rows

    asyncio.run(go())


def test_a_batch_that_began_and_does_not_go_on_ends_its_stream_and_no_other(
    tmp_path: Path,
) -> None:
    limits = CallLimits(part_idle_s=0.2, part_bytes_per_s=1 << 40)

    async def go() -> None:
        async with (
            serving(tmp_path, limits=limits) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            append = channel.stream_stream(APPEND.path)
            call = append(timeout=120)
            for message in appending([1])[:2]:
                await call.write(message)
            with pytest.raises(grpc.aio.AioRpcError, match="a batch came too slowly") as caught:
                [raw async for raw in call]
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            silent = append(timeout=120)
            await silent.write(appending([])[0])
            said = await silent.read()
            assert isinstance(said, bytes)
            assert recordings_pb2.AppendResponse.FromString(said).durable == 0
            await asyncio.sleep(0.5)
            assert not silent.done(), "a stream that holds no part of a batch may be silent"
            silent.cancel()

    asyncio.run(go())


def test_a_stream_that_its_client_left_holds_none_of_the_sessions(tmp_path: Path) -> None:
    async def go() -> None:
        async with (
            serving(tmp_path, sessions=1) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            append = channel.stream_stream(APPEND.path)
            first = append(timeout=120)
            await first.write(appending([])[0])
            assert isinstance(await first.read(), bytes)
            first.cancel()
            while True:  # the server hears of it a little later
                second = append(timeout=120)
                await second.write(appending([], producer="q")[0])
                if isinstance(await second.read(), bytes):
                    second.cancel()
                    return
                assert await second.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(go(), 60))


def streaming_held_up() -> tuple[Streaming, threading.Semaphore, threading.Event]:
    """Reads of one message that say when they begin, and wait until they may go on."""
    goes_on, begun = threading.Event(), threading.Semaphore(0)

    def answer(request: Message) -> Iterator[Framed[Message]]:
        begun.release()
        goes_on.wait(120)
        yield Framed(head=recordings_pb2.ReadResponse(start=5), payload=())

    return Streaming(READ, answer), begun, goes_on


def test_calls_beyond_a_limit_are_refused_in_turns_until_the_server_ends(tmp_path: Path) -> None:
    many, tick_s = 40, 0.01
    held_up, begun, goes_on = streaming_held_up()

    async def go() -> None:
        loop, made, limits = asyncio.get_running_loop(), list[Calls](), CallLimits(streams=1)
        async with (
            serving(tmp_path, streaming=[held_up], limits=limits, made=made) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            read = channel.unary_stream(READ.path)
            held = read(b"", timeout=120)
            assert await asyncio.to_thread(begun.acquire, timeout=60)
            began = loop.time()
            refused = [read(b"", timeout=120) for _ in range(many)]
            codes = [await call.code() for call in refused]
            assert loop.time() - began > (many - 2) * tick_s
            made[0].drain()
            codes += [await read(b"", timeout=120).code() for _ in range(many)]
            assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert made[0]._exhausted.waiting == 0
            held.cancel()

    try:
        asyncio.run(go())
    finally:
        goes_on.set()


def test_64_streams_are_read_at_a_time_and_one_more_is_refused(tmp_path: Path) -> None:
    held_up, begun, goes_on = streaming_held_up()

    async def go() -> None:
        async with (
            serving(tmp_path, streaming=[held_up]) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            read = channel.unary_stream(READ.path)
            held = [read(b"", timeout=120) for _ in range(64)]
            for _ in held:
                assert await asyncio.to_thread(begun.acquire, timeout=60)
            with pytest.raises(grpc.aio.AioRpcError, match="64 streams are open") as caught:
                [raw async for raw in read(b"", timeout=20)]
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            goes_on.set()
            for call in held:
                assert [raw async for raw in call] == [
                    recordings_pb2.ReadResponse(start=5).SerializeToString()
                ]
            assert len([raw async for raw in read(b"", timeout=120)]) == 1

    try:
        asyncio.run(go())
    finally:
        goes_on.set()


def test_few_threads_make_messages_of_streams_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_calls, "_MAKING_S", 120.0)  # however slow this machine is
    counting, now, most = threading.Lock(), 0, 0

    def answer(request: Message) -> Iterator[Framed[Message]]:
        nonlocal now, most
        for _ in range(5):
            with counting:
                now += 1
                most = max(most, now)
            time.sleep(0.002)
            with counting:
                now -= 1
            yield Framed(head=recordings_pb2.ReadResponse(), payload=())

    async def go() -> None:
        async with (
            serving(tmp_path, streaming=[Streaming(READ, answer)]) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            calls = [channel.unary_stream(READ.path)(b"", timeout=120) for _ in range(40)]
            for call in calls:
                assert len([raw async for raw in call]) == 5

    asyncio.run(go())
    assert most == 3, "and one is kept for another client"


def test_the_more_streams_are_read_the_smaller_are_their_messages(tmp_path: Path) -> None:
    asked: list[int] = []
    ends = threading.Event()

    def answer(request: Message) -> Iterator[Framed[Message]]:
        asked.append(block_bytes())
        yield Framed(head=recordings_pb2.ReadResponse(), payload=())
        ends.wait(120)

    async def go() -> None:
        async with (
            serving(tmp_path, streaming=[Streaming(READ, answer)], held_bytes=64 << 20) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            read, held = channel.unary_stream(READ.path), []
            for _ in range(64):
                held.append(read(b"", timeout=120))
                assert await held[-1].read() is not _EOF
            ends.set()

    try:
        asyncio.run(go())
    finally:
        ends.set()
    assert (asked[0], asked[7], asked[63]) == (1 << 20, 1 << 17, 1 << 16)
    assert asked == sorted(asked, reverse=True)


def test_a_message_that_waits_for_its_reader_is_held_encoded_only(tmp_path: Path) -> None:
    made, left = [0], [0]

    class Told(bytearray):
        def __del__(self) -> None:
            left[0] += 1

    def answer(request: Message) -> Iterator[Framed[Message]]:
        while True:
            made[0] += 1
            yield Framed(head=recordings_pb2.ReadResponse(), payload=(memoryview(Told(4 << 20)),))

    async def go() -> None:
        async with (
            serving(tmp_path, streaming=[Streaming(READ, answer)]) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            call = channel.unary_stream(READ.path)(b"", timeout=120)
            before = -1
            while made[0] != before:  # until the reader is waited for
                before = made[0] or -1
                await asyncio.sleep(0.5)
            assert made == left
            call.cancel()

    asyncio.run(go())


def test_a_stream_that_nobody_reads_ends_and_so_does_one_that_lasts_too_long(
    tmp_path: Path,
) -> None:
    ended = threading.Semaphore(0)

    def answer(request: Message) -> Iterator[Framed[Message]]:
        try:
            while True:
                yield Framed(
                    head=recordings_pb2.ReadResponse(), payload=(memoryview(b"x" * 2**20),)
                )
        finally:
            ended.release()

    async def go() -> None:
        limits = CallLimits(read_idle_s=0.2)
        async with (
            serving(tmp_path, streaming=[Streaming(READ, answer)], limits=limits) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            silent = channel.unary_stream(READ.path)(b"", timeout=120)
            assert await silent.read()
            assert await asyncio.to_thread(ended.acquire, timeout=60)
            with pytest.raises(grpc.aio.AioRpcError, match=r"took no message for 0\.2 s"):
                await read_all(silent)
        limits = CallLimits(read_total_s=0.1)
        async with (
            serving(tmp_path, streaming=[Streaming(READ, answer)], limits=limits) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            read = channel.unary_stream(READ.path)
            with pytest.raises(grpc.aio.AioRpcError, match="read the rest with another call"):
                await read_all(read(b"", timeout=120))
            assert await asyncio.to_thread(ended.acquire, timeout=60)

    asyncio.run(go())


async def read_all(call: "grpc.aio.UnaryStreamCall[bytes, bytes]") -> None:
    while await call.read() is not _EOF:
        pass
