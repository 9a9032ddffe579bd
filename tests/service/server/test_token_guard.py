"""The guard in front of a real grpc server: which tokens it takes, and when it looks."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from isogloss.service.server.token_guard import TokenGuard

TOKEN = "0123456789abcdef-token"
UNARY, STREAM, HEALTH = "/t.T/Unary", "/t.T/Stream", "/grpc.health.v1.Health/Check"


async def _unary(request: bytes, context: object) -> bytes:
    return request


async def _stream(request: bytes, context: object) -> AsyncIterator[bytes]:
    yield request
    yield request


@asynccontextmanager
async def _guarded() -> AsyncGenerator[grpc.aio.Channel]:
    """Run a guarded server; yields a channel to it."""
    server = grpc.aio.server(interceptors=[TokenGuard(TOKEN, lambda: b"well")])
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Stream": grpc.unary_stream_rpc_method_handler(_stream),
    }
    health = {"Check": grpc.unary_unary_rpc_method_handler(_unary)}
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler("t.T", handlers),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        ]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def _answers(path: str, metadata: tuple[tuple[str, str], ...]) -> str:
    """Call a guarded server; return the name of the status with which the call ended."""
    async with _guarded() as channel:
        try:
            if path == STREAM:
                found = [m async for m in channel.unary_stream(path)(b"x", metadata=metadata)]
                assert found == [b"x", b"x"]
            else:
                assert await channel.unary_unary(path)(b"x", metadata=metadata) == b"x"
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@pytest.mark.parametrize("path", [UNARY, STREAM])
@pytest.mark.parametrize(
    "metadata",
    [
        (),
        bearer(""),
        bearer(TOKEN[:-1]),
        bearer(TOKEN[:1]),
        bearer(TOKEN[1:]),
        bearer(TOKEN + "x"),
        bearer(TOKEN.upper()),
        (("authorization", "Bearer"),),
        (("authorization", TOKEN),),
        (("authorization", f"Basic {TOKEN}"),),
        (*bearer("wrong"), *bearer(TOKEN)),
        (*bearer(TOKEN), *bearer("wrong")),
        (*bearer(TOKEN), *bearer(TOKEN)),
    ],
    ids=repr,
)
def test_over_tcp_only_the_whole_token_is_taken(
    path: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    assert asyncio.run(_answers(path, metadata)) == "UNAUTHENTICATED"


@pytest.mark.parametrize("path", [UNARY, STREAM])
def test_over_tcp_the_token_lets_calls_through(path: str) -> None:
    assert asyncio.run(_answers(path, bearer(TOKEN))) == "OK"


@pytest.mark.parametrize("path", [UNARY, STREAM])
@pytest.mark.parametrize("metadata", [(), bearer("wrong")], ids=repr)
def test_a_call_without_the_token_ends_before_it_sent_anything(
    path: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    async def held() -> grpc.StatusCode:
        async with _guarded() as channel:
            # a client that opens the call and never sends its request
            call = channel.stream_stream(path)(metadata=metadata, timeout=60)
            return await call.code()

    assert asyncio.run(held()) is grpc.StatusCode.UNAUTHENTICATED


def test_whoever_asks_is_told_whether_the_server_is_well_and_nothing_is_read_of_them() -> None:
    async def asked() -> tuple[bytes, object, grpc.StatusCode]:
        async with _guarded() as channel:
            check = channel.unary_unary(HEALTH)
            without = await check(b"x" * 3_000_000)
            held = channel.stream_stream(HEALTH)(timeout=60)  # never sends its request
            first = await held.read()
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60)
            return without, first, await watch.code()

    assert asyncio.run(asked()) == (b"well", b"well", grpc.StatusCode.UNAUTHENTICATED)
