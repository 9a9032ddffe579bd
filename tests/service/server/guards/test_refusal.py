"""A call that is refused ends before what it sends is read, with our error."""

import asyncio

import grpc
import grpc.aio
import pytest

from isogloss.errors import NotPermitted
from isogloss.service.server.guards.refusal import refusal
from isogloss.service.wire.errors import from_call


def test_a_call_of_any_form_is_ended_and_nothing_of_it_is_read() -> None:
    async def go() -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", 1)])
        handlers = {"Any": refusal(NotPermitted("no: ask elsewhere"))}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("t.T", handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = channel.stream_stream("/t.T/Any")(timeout=60)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call.read()
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary("/t.T/Any")(b"longer than one byte", timeout=60)
                trailers = [(str(key), value) for key, value in caught.value.trailing_metadata()]
                found = from_call(caught.value.code(), "", trailers, "there")
                assert isinstance(found, NotPermitted)
                assert str(found) == "no: ask elsewhere"
        finally:
            await server.stop(None)

    asyncio.run(go())
