"""Refuses new calls while a server ends, and tells still whether it is well."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio

from isogloss.errors import ServerUnavailable
from isogloss.service.server.guards.refusal import refusal

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

_HEALTH = "/grpc.health.v1.Health/"


class DrainGuard(grpc.aio.ServerInterceptor):
    """Ends calls that begin after the server was told to end, but checks of its health.

    Its ports stay open until running calls have ended: a caller learns from an answer, and not
    from silence, that it has to go elsewhere or wait.
    """

    def __init__(self) -> None:
        """Let calls through, until :attr:`draining` is set."""
        self.draining = False
        """Whether the server ends."""

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails],
            "Awaitable[grpc.RpcMethodHandler[RequestT, ResponseT] | None]",
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[RequestT, ResponseT] | None":
        """Look whether the server ends when the headers of a call are there."""
        if not self.draining or handler_call_details.method.startswith(_HEALTH):
            return await continuation(handler_call_details)
        return refusal(
            ServerUnavailable(
                "the server is shutting down and takes no new calls: call again once it, or "
                "another `isogloss serve`, answers for this store"
            )
        )
