"""The guard in front of a real grpc server: which tokens it takes, over TCP and a unix socket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

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


async def _answers(address: str, path: str, metadata: tuple[tuple[str, str], ...]) -> str:
    """Call a guarded server; return the name of the status with which the call ended."""
    server = grpc.aio.server(interceptors=[TokenGuard(TOKEN)])
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
    port = server.add_insecure_port(address)
    await server.start()
    target = address if address.startswith("unix:") else f"127.0.0.1:{port}"
    try:
        async with grpc.aio.insecure_channel(target) as channel:
            try:
                if path == STREAM:
                    found = [m async for m in channel.unary_stream(path)(b"x", metadata=metadata)]
                    assert found == [b"x", b"x"]
                else:
                    assert await channel.unary_unary(path)(b"x", metadata=metadata) == b"x"
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"
    finally:
        await server.stop(None)


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
    ],
    ids=repr,
)
def test_over_tcp_only_the_whole_token_is_taken(
    path: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    assert asyncio.run(_answers("127.0.0.1:0", path, metadata)) == "UNAUTHENTICATED"


@pytest.mark.parametrize("path", [UNARY, STREAM])
def test_over_tcp_the_token_lets_calls_through(path: str) -> None:
    assert asyncio.run(_answers("127.0.0.1:0", path, bearer(TOKEN))) == "OK"


@pytest.mark.parametrize("path", [UNARY, STREAM])
def test_a_unix_socket_asks_for_no_token(tmp_path: Path, path: str) -> None:
    assert asyncio.run(_answers(f"unix:{tmp_path}/socket", path, ())) == "OK"


def test_health_checks_need_no_token() -> None:
    assert asyncio.run(_answers("127.0.0.1:0", HEALTH, ())) == "OK"
