"""The guard of a server that ends, in front of a real one."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from isogloss.errors import ServerUnavailable
from isogloss.service.server.guards.drain_guard import DrainGuard
from isogloss.service.wire.errors import from_call

UNARY, STREAM, HEALTH = "/t.T/Unary", "/t.T/Stream", "/grpc.health.v1.Health/Check"


async def _unary(request: bytes, context: object) -> bytes:
    return request


async def _stream(request: bytes, context: object) -> AsyncIterator[bytes]:
    yield request


def test_new_calls_are_refused_once_the_server_ends_and_health_is_still_told() -> None:
    async def go() -> None:
        guard = DrainGuard()
        server = grpc.aio.server(interceptors=[guard])
        calls = {
            "Unary": grpc.unary_unary_rpc_method_handler(_unary),
            "Stream": grpc.unary_stream_rpc_method_handler(_stream),
        }
        health = {"Check": grpc.unary_unary_rpc_method_handler(_unary)}
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler("t.T", calls),
                grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
            ]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                assert await channel.unary_unary(UNARY)(b"x") == b"x"
                guard.draining = True
                assert await channel.unary_unary(HEALTH)(b"x") == b"x"
                for call in (channel.unary_unary(UNARY)(b"x"), anext(stream_of(channel))):
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await call
                    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                    trailers = [
                        (str(key), value) for key, value in caught.value.trailing_metadata()
                    ]
                    error = from_call(None, None, trailers, "there")
                    assert isinstance(error, ServerUnavailable)
                    assert "call again once it" in str(error)
        finally:
            await server.stop(None)

    asyncio.run(go())


async def stream_of(channel: grpc.aio.Channel) -> AsyncIterator[bytes]:
    async for message in channel.unary_stream(STREAM)(b"x"):
        yield message
