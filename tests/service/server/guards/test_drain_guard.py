"""The guard of a server that ends, in front of a real one."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from tests.service.server.guards.guarded import HEALTH, STREAM, UNARY, guarded

from isogloss.errors import ServerUnavailable
from isogloss.service.server.guards.drain_guard import DrainGuard
from isogloss.service.wire.errors import from_call


def test_new_calls_are_refused_once_the_server_ends_and_health_is_still_told() -> None:
    async def go() -> None:
        guard = DrainGuard()
        async with guarded(guard) as channel:
            assert await channel.unary_unary(UNARY)(b"x") == b"x"
            guard.draining = True
            assert await channel.unary_unary(HEALTH)(b"x") == b"x"
            for call in (channel.unary_unary(UNARY)(b"x"), anext(stream_of(channel))):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                trailers = [(str(key), value) for key, value in caught.value.trailing_metadata()]
                error = from_call(None, None, trailers, "there")
                assert isinstance(error, ServerUnavailable)
                assert "call again once it" in str(error)

    asyncio.run(go())


async def stream_of(channel: grpc.aio.Channel) -> AsyncIterator[bytes]:
    async for message in channel.unary_stream(STREAM)(b"x"):
        yield message
