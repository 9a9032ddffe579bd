"""Where a server listens; what an address must have: a private directory, a token, or TLS."""

import hmac
import os
import secrets
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio

from isogloss.errors import InvalidInput, NotAuthenticated, NotPermitted
from isogloss.service.values.addresses import TOKEN_NAME, Address
from isogloss.service.wire.errors import DETAILS_KEY, code_of, to_status


def check_address(address: Address, *, has_tls: bool) -> None:
    """Make the directory of a socket private; refuse other machines without TLS.

    Raises:
        NotPermitted: the socket's directory is open to others, or belongs to someone else; or the
            address reaches beyond this machine and there is no certificate.
    """
    if address.socket is None:
        if not address.is_loopback and not has_tls:
            raise NotPermitted(
                f"{address} can be reached from other machines, and without TLS everyone between "
                "reads tokens and activations: give a certificate and key, or listen on 127.0.0.1 "
                "and tunnel"
            )
        return
    directory = address.socket.parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NotPermitted(
            f"{directory} has mode {stat.S_IMODE(found.st_mode):o} and owner {found.st_uid}, "
            f"wanted 700 and {os.getuid()}: whoever can open the socket controls the store; "
            f"chmod 700 {directory}, or give another directory"
        )


def store_token(state: Path, token: str | None) -> str:
    """Return the token of a store's TCP ports, kept in a file that only its owner reads.

    Args:
        state: the store's state directory.
        token: written over what is kept; None keeps it, or makes one.

    Raises:
        InvalidInput: a token of less than 16 characters.
    """
    path = state / TOKEN_NAME
    if token is None and path.exists():
        return path.read_text().strip()
    made = token if token is not None else secrets.token_urlsafe(32)
    if len(made) < 16 or not made.isascii() or not made.isprintable():
        raise InvalidInput(
            f"token has {len(made)} characters, wanted at least 16 that print: leave it out and "
            "one is made"
        )
    fresh = path.with_name(f"{TOKEN_NAME}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(made + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return made


RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


Context = grpc.aio.ServicerContext[bytes, bytes]


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
    """Asks every call for the token, but health checks and what comes through a unix socket."""

    def __init__(self, token: str) -> None:
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
        """Return the same handler behind the check: of its four functions one is set."""
        guarded = _Guarded()
        for name in _PLAIN:
            setattr(guarded, name, getattr(handler, name))
        guard = self._stream if handler.response_streaming else self._single
        for name in _ANSWERS:
            answer = getattr(handler, name)
            setattr(guarded, name, answer and guard(answer))
        return guarded

    def _single(
        self, answer: Callable[[RequestT, Context], Awaitable[ResponseT]]
    ) -> Callable[[RequestT, Context], Awaitable[ResponseT]]:
        async def checked(request: RequestT, context: Context) -> ResponseT:
            await self._check(context)
            return await answer(request, context)

        return checked

    def _stream(
        self, answer: Callable[[RequestT, Context], AsyncIterator[ResponseT]]
    ) -> Callable[[RequestT, Context], AsyncIterator[ResponseT]]:
        async def checked(request: RequestT, context: Context) -> AsyncIterator[ResponseT]:
            await self._check(context)
            async for response in answer(request, context):
                yield response

        return checked

    async def _check(self, context: Context) -> None:
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
