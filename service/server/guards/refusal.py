"""Ends a call before anything of what it sends is read."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from isogloss.errors import IsoglossError
from isogloss.service.server.guards.turns import Turns
from isogloss.service.wire.callers import client_of
from isogloss.service.wire.errors import ending_of

# grpc reads the request of a call that takes a single one before it runs the handler; of a call
# that takes a stream the handler itself does, and these read nothing


def refusal(error: IsoglossError, turns: Turns | None = None) -> "grpc.RpcMethodHandler[Any, Any]":
    """Return a handler that ends any call with an error; it serves for any number of calls.

    Args:
        error: what the caller is told.
        turns: in which calls end; None: at once.
    """
    ending = ending_of(error)

    async def refuse(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        if turns is not None:
            await turns.turn(client_of(context.peer(), None))
        await context.abort(*ending)
        for response in ():  # a generator is what grpc wants
            yield response

    return grpc.stream_stream_rpc_method_handler(refuse)  # type: ignore[arg-type]
