"""Asks the calls of a server for the token."""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio

from isogloss.errors import NotAuthenticated
from isogloss.service.values.addresses import TOKEN_NAME
from isogloss.service.wire.errors import DETAILS_KEY, code_of, to_status

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

CallContext = grpc.aio.ServicerContext[bytes, bytes]


_PLAIN = (
    "request_streaming",
    "response_streaming",
    "request_deserializer",
    "response_serializer",
)
_ANSWERS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


# At run time grpc's class takes no type arguments.
class _Guarded(grpc.RpcMethodHandler):  # pyright: ignore[reportMissingTypeArgument]
    """A handler whose attributes are set one by one."""


class TokenGuard(grpc.aio.ServerInterceptor):
    """Ends calls that lack the token; health checks and calls through a unix socket need none."""

    def __init__(self, token: str) -> None:
        """Guard a server with a token.

        Args:
            token: the token that every call must send, as ``authorization: Bearer <token>``.
        """
        self._wanted = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails],
            "Awaitable[grpc.RpcMethodHandler[RequestT, ResponseT] | None]",
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[RequestT, ResponseT] | None":
        """Put the check in front of the handler; who calls is known only there."""
        handler = await continuation(handler_call_details)
        # None: no such method, which grpc itself answers.
        if handler is None or handler_call_details.method.startswith("/grpc.health.v1.Health/"):
            return handler
        return self._guarded(handler)

    def _guarded(
        self, handler: "grpc.RpcMethodHandler[RequestT, ResponseT]"
    ) -> "grpc.RpcMethodHandler[RequestT, ResponseT]":
        """Return the handler with the check before it. One of a handler's four functions is set."""
        guarded = _Guarded()
        for name in _PLAIN:
            setattr(guarded, name, getattr(handler, name))
        guard = self._stream if handler.response_streaming else self._single
        for name in _ANSWERS:
            answer = getattr(handler, name)
            setattr(guarded, name, answer and guard(answer))
        return guarded

    def _single(
        self, answer: Callable[[RequestT, CallContext], Awaitable[ResponseT]]
    ) -> Callable[[RequestT, CallContext], Awaitable[ResponseT]]:
        async def checked(request: RequestT, context: CallContext) -> ResponseT:
            await self._check(context)
            return await answer(request, context)

        return checked

    def _stream(
        self, answer: Callable[[RequestT, CallContext], AsyncIterator[ResponseT]]
    ) -> Callable[[RequestT, CallContext], AsyncIterator[ResponseT]]:
        async def checked(request: RequestT, context: CallContext) -> AsyncIterator[ResponseT]:
            await self._check(context)
            async for response in answer(request, context):
                yield response

        return checked

    async def _check(self, context: CallContext) -> None:
        if context.peer().startswith("unix:"):
            return
        metadata = dict(context.invocation_metadata() or ())
        given = metadata.get("authorization", "")
        given_bytes = given.encode() if isinstance(given, str) else given
        if hmac.compare_digest(given_bytes, self._wanted):
            return
        what = "a wrong token" if given else "no token"
        refused = NotAuthenticated(
            f"the call carries {what}: give connect(..., token=...) what the file {TOKEN_NAME!r} "
            "of the store holds; for a store on an object store, that of the server's state "
            "directory for it"
        )
        trailers = ((DETAILS_KEY, to_status(refused).SerializeToString()),)
        await context.abort(code_of(refused), str(refused), trailers)
