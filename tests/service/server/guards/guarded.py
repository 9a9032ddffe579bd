"""A real grpc server behind a guard, with calls of two forms and a check of health."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio

UNARY, STREAM, HEALTH = "/t.T/Unary", "/t.T/Stream", "/grpc.health.v1.Health/Check"


async def _unary(request: bytes, context: object) -> bytes:
    return request


async def _stream(request: bytes, context: object) -> AsyncIterator[bytes]:
    yield request
    yield request


@asynccontextmanager
async def guarded(guard: grpc.aio.ServerInterceptor) -> AsyncGenerator[grpc.aio.Channel]:
    """Run a guarded server; yields a channel to it."""
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
            yield channel
    finally:
        await server.stop(None)
