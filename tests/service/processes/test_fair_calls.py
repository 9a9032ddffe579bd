"""One client's many calls keep no other client out, whatever they wait for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from isogloss.errors import InvalidInput, ServerUnavailable
from isogloss.service.processes.fair_calls import FairCalls
from isogloss.service.wire.errors import from_call

PLACES = 4
KINDS = ("Unary", "Give", "Take", "Both")
_EOF = getattr(grpc.aio, "EOF")  # noqa: B009 - the stubs lack it


async def _unary(request: bytes, context: object) -> bytes:
    return request + b"!"


async def _give(request: bytes, context: object) -> AsyncIterator[bytes]:
    yield request
    yield b"!"


async def _take(requests: AsyncIterator[bytes], context: object) -> bytes:
    return b"".join([request async for request in requests]) + b"!"


async def _both(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request + b"!"


@asynccontextmanager
async def _serving(directory: Path, request_s: float = 60.0) -> AsyncGenerator[tuple[str, str]]:
    """Run a server of few calls; its unix socket and its port, which are two places."""
    server = grpc.aio.server(interceptors=[FairCalls(PLACES, request_s)])
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Give": grpc.unary_stream_rpc_method_handler(_give),
        "Take": grpc.stream_unary_rpc_method_handler(_take),
        "Both": grpc.stream_stream_rpc_method_handler(_both),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("t.T", handlers)])
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    unix = f"unix:{directory}/s"
    server.add_insecure_port(unix)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield unix, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def _all_of(channel: grpc.aio.Channel, kind: str, *sent: bytes) -> list[bytes]:
    """Make a call of any kind in the form that fits all; return its answers."""
    call = channel.stream_stream(f"/t.T/{kind}")(timeout=60)
    for message in sent:
        await call.write(message)
    await call.done_writing()
    return [answer async for answer in call]


async def _error(call: "grpc.aio.StreamStreamCall[bytes, bytes]") -> Exception:
    code = await call.code()
    trailers = [(str(key), value) for key, value in await call.trailing_metadata()]
    return from_call(code, await call.details(), trailers, "there")


@pytest.mark.parametrize("kind", KINDS)
def test_calls_of_every_kind_are_answered_as_they_would_be(tmp_path: Path, kind: str) -> None:
    wanted = {"Give": [b"a", b"!"]}.get(kind, [b"a!"])

    async def go() -> None:
        async with _serving(tmp_path) as (unix, _), grpc.aio.insecure_channel(unix) as channel:
            for _ in range(PLACES + 1):  # each gives its place back
                assert await _all_of(channel, kind, b"a") == wanted
            assert await channel.unary_unary("/t.T/Unary")(b"", timeout=60) == b"!"

    asyncio.run(go())


@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_never_send_their_request_make_room_for_another_client(
    tmp_path: Path, kind: str
) -> None:
    async def go() -> None:
        async with (
            _serving(tmp_path) as (unix, port),
            grpc.aio.insecure_channel(unix) as channel,
            grpc.aio.insecure_channel(port) as other,
        ):
            held = [channel.stream_stream(f"/t.T/{kind}")(timeout=60) for _ in range(PLACES)]
            await asyncio.gather(*(call.wait_for_connection() for call in held))
            one_more = channel.stream_stream(f"/t.T/{kind}")(timeout=60)
            assert await one_more.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await _all_of(other, "Unary", b"a") == [b"a!"]
            done, _ = await asyncio.wait(
                [asyncio.create_task(_error(call)) for call in held],
                return_when=asyncio.FIRST_COMPLETED,
            )
            (lost,) = [task.result() for task in done]
            assert isinstance(lost, ServerUnavailable)
            assert "made room for another client" in str(lost)

    asyncio.run(go())


def test_watchers_of_health_share_the_calls_too(tmp_path: Path) -> None:
    async def go() -> None:
        async with (
            _serving(tmp_path) as (unix, port),
            grpc.aio.insecure_channel(unix) as channel,
            grpc.aio.insecure_channel(port) as other,
        ):
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
            held = [watch(b"", timeout=60) for _ in range(PLACES)]
            for call in held:
                assert await call.read() is not _EOF
            assert await _all_of(other, "Unary", b"a") == [b"a!"]

    asyncio.run(go())


def test_a_request_must_come_in_time_and_be_one(tmp_path: Path) -> None:
    async def go() -> None:
        async with (
            _serving(tmp_path, request_s=0.1) as (unix, _),
            grpc.aio.insecure_channel(unix) as channel,
        ):
            silent = channel.stream_stream("/t.T/Unary")(timeout=60)
            assert await silent.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "did not come within 0.1 s" in await silent.details()
            for path, sent in (("/t.T/Unary", ()), ("/grpc.health.v1.Health/Check", (b"\xff",))):
                call = channel.stream_stream(path)(timeout=60)
                for message in sent:
                    await call.write(message)
                await call.done_writing()
                assert isinstance(await _error(call), InvalidInput)

    asyncio.run(go())
