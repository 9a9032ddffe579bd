"""Bounds the calls that run at a time, shared fairly between those who make them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from isogloss.errors import InvalidInput, IsoglossError
from isogloss.service.server.shares import CallPlace, Shares
from isogloss.service.wire.callers import client_of
from isogloss.service.wire.errors import ending_of

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Behaviour: TypeAlias = "Callable[[Any, _Context], Any]"

_FOREVER_S = 10.0 * 365 * 24 * 3600


class FairCalls(grpc.aio.ServerInterceptor):
    """Gives each call a place from its headers on, before its request is read.

    Where all places are taken, a client with less than its share gets one from the client that has
    the most: its call that began longest ago ends (see :class:`Shares`). So a client that opens
    calls and never sends their requests, or that makes slow ones by the thousand, keeps nobody else
    out.
    """

    def __init__(self, calls: int, request_s: float) -> None:
        """Share places between clients, on one event loop.

        Args:
            calls: how many there are, over all servers that are given this.
            request_s: within how many seconds a request must have come.
        """
        self._places = Shares(calls, "calls")
        self._request_s = request_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401 - grpc's types say no more
        """Return the handler of a call, within a place."""
        handler = cast("_Handler | None", await continuation(handler_call_details))
        return None if handler is None else self._within_place(handler)

    def _within_place(self, handler: _Handler) -> _Handler:
        async def call(requests: AsyncIterator[Any], context: _Context) -> None:
            client = client_of(context.peer(), context.invocation_metadata())
            try:
                with self._places.place(client) as place:
                    given: object = requests
                    if not handler.request_streaming:
                        given = await self._request(requests, place)
                    await place.within(_answer(handler, given, context), _FOREVER_S, "")
            except DecodeError as error:
                wrong = InvalidInput(f"the request is none of this call: {error}")
                await context.abort(*ending_of(wrong))
            except IsoglossError as error:
                await context.abort(*ending_of(error))

        return grpc.stream_stream_rpc_method_handler(
            cast("Any", call),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _request(self, requests: AsyncIterator[Any], place: CallPlace) -> object:
        """Return the only message of a call that sends one."""
        slow = f"the call's request did not come within {self._request_s:g} s: call again"
        given = await place.within(anext(aiter(requests), None), self._request_s, slow)
        if given is None:
            raise InvalidInput("the call ended without a request: send one")
        return given


async def _answer(handler: _Handler, given: object, context: _Context) -> None:
    """Have a handler of any of the four kinds answer, and send what it gives."""
    behaviour = _behaviour(handler)
    answers = behaviour(given, context)
    if asyncio.iscoroutine(answers):
        answer = await answers
        if not handler.response_streaming:
            await context.write(answer)
        return
    stream = cast("AsyncGenerator[Any]", answers)
    try:
        async for answer in stream:
            await context.write(answer)
    finally:
        await stream.aclose()


def _behaviour(handler: _Handler) -> _Behaviour:
    kinds = (
        (handler.unary_stream, handler.unary_unary),
        (handler.stream_stream, handler.stream_unary),
    )
    return cast("_Behaviour", kinds[handler.request_streaming][not handler.response_streaming])
