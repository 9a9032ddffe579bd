"""Calls over a channel, blocking and for asyncio. Nothing of grpc leaves this module."""

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterator
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.message import Message

from isogloss.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    IsoglossError,
    ServerUnavailable,
)
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.outgoing import Outgoing, encoded, parts_of
from isogloss.service.transport.patience import Patience
from isogloss.service.transport.protocols import AppendStream, check_deadline
from isogloss.service.transport.proxies import is_local, proxy_in_the_way
from isogloss.service.transport.tls_trouble import tls_trouble
from isogloss.service.wire import framing
from isogloss.service.wire.callers import CALLER_KEY, own_name
from isogloss.service.wire.errors import from_call
from isogloss.service.wire.framing import MESSAGE_BYTES, Framed
from isogloss.service.wire.methods import METHODS, Method, method_of
from isogloss.store import RowBatch

_APPEND = method_of(pb.AppendRequest, pb.AppendResponse)
RESTART_S = 30.0
"""How long a repeatable call outlasts a server that answered before and is away now."""
_OUTBOX = 8
"""Parts between the caller and the channel; they are views of batches that are kept anyhow."""


def channel_options(address: str) -> list[tuple[str, int | str]]:
    """Return the options of a channel: finite sizes, keepalive, retries of repeatable calls.

    A proxy that the environment names is asked for other machines only: it reaches another loopback
    than this machine's.

    Args:
        address: ``unix:/path`` or ``host:port``.
    """
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    # a stream that ended early is begun again by whoever reads it
    names = [
        {"service": method.service, "method": method.name}
        for _, method in sorted(METHODS.items())
        if method.is_repeatable and not method.gives_stream
    ]
    config = {"methodConfig": [{"name": names, "retryPolicy": retry}]}
    return [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # also the time that an attempt to connect has: 32 at once need more than 100 ms
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(config)),
        ("grpc.enable_http_proxy", 0 if is_local(address) else 1),
    ]


def _metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Return what every call carries; InvalidInput for a token that no call can carry."""
    caller = (CALLER_KEY, own_name())
    if not token:
        return (caller,)
    carried = [c.isascii() and c.isprintable() for c in token]
    for end in (0, -1):  # spaces at its ends are lost on the way
        carried[end] = carried[end] and token[end] != " "
    if not all(carried):
        wrong = carried.index(False)
        raise InvalidInput(
            f"token holds {token[wrong]!r} at place {wrong} of {len(token)}, wanted printable "
            "ASCII: give what the token's file holds, without the end of its line"
        )
    return (caller, ("authorization", f"Bearer {token}"))


@dataclass(frozen=True)
class _Server:
    """Where calls go, and how."""

    address: str
    """``unix:/path`` or ``host:port``."""
    has_tls: bool
    """Whether this end speaks TLS."""

    def error(self, error: grpc.RpcError) -> IsoglossError:
        """Return our error for what a call raised; a blocking call raises its own object."""
        trailers: tuple[tuple[str, str | bytes], ...] = ()
        if isinstance(error, grpc.aio.AioRpcError):
            code, text = error.code(), error.details()
            trailers = tuple((str(key), value) for key, value in error.trailing_metadata())
        elif isinstance(error, grpc.Call):
            code, text = error.code(), error.details()
            trailers = tuple((item.key, item.value) for item in error.trailing_metadata() or ())
        else:
            return ServerUnavailable(f"{self.address}: {error}; connect again")
        if code is grpc.StatusCode.UNAVAILABLE and not trailers:
            trouble = tls_trouble(text or "", self.address, has_tls=self.has_tls)
            if trouble:
                return ServerUnavailable(f"{self.address}: {trouble}")
        found = from_call(code, text, trailers, self.address)
        if isinstance(found, ServerUnavailable | DeadlineExceeded) and not trailers:
            return type(found)(f"{found}{proxy_in_the_way(self.address)}")
        return found


class GrpcTransport:
    """Blocking calls over one channel; safe from several threads."""

    def __init__(
        self, address: str, *, token: str | None = None, certificate: bytes | None = None
    ) -> None:
        """Open a channel; nothing is sent yet.

        Args:
            address: ``unix:/path`` or ``host:port``.
            token: sent with every call.
            certificate: PEM of what signs the server's certificate; None speaks without TLS.
        """
        self._server = _Server(address, has_tls=certificate is not None)
        self._metadata = _metadata(token)
        self._has_answered = False
        options = channel_options(address)
        if certificate is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            credentials = grpc.ssl_channel_credentials(certificate)
            self._channel = grpc.secure_channel(address, credentials, options)

    @property
    def address(self) -> str:
        """The server's address."""
        return self._server.address

    def unary(self, method: Method, request: Message, timeout_s: float) -> Message:
        """Make a call that has one answer.

        A call that may be repeated is made again while a server that answered before is away, for
        :data:`RESTART_S` or ``timeout_s``, whichever is shorter: a server that starts again is not
        noticed. Each try has the whole of ``timeout_s``.
        """
        patience = Patience(min(RESTART_S, timeout_s))
        while True:
            try:
                answer = self._unary(method, request, timeout_s)
            except ServerUnavailable as error:
                if not (method.is_repeatable and self._has_answered):
                    raise
                time.sleep(patience.pause_s(error))
            else:
                self._has_answered = True
                return answer

    def _unary(self, method: Method, request: Message, timeout_s: float) -> Message:
        call = self._channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        timeout = check_deadline(timeout_s)
        try:
            return call(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._server.error(error) from None
        except ValueError as error:  # how grpc says that the channel was closed
            raise _closed(error) from error

    def stream(self, method: Method, request: Message) -> Generator[Framed[Message]]:
        """Ask once, answer as a stream."""
        start = self._channel.unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=lambda raw: framing.decode(method.response, raw),
        )
        try:
            call = start(request, metadata=self._metadata)
        except ValueError as error:
            raise _closed(error) from error
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._server.error(error) from None
        finally:
            call.cancel()

    def append(self, header: pb.AppendHeader) -> AppendStream:
        """Begin a producer's stream."""
        return _GrpcAppend(self._channel, self._server, self._metadata, header)

    def outgoing(self, batch: RowBatch) -> Outgoing:
        """Return a batch in its encoding."""
        return encoded(batch)

    def close(self) -> None:
        """Close the channel; calls that run end with ServerUnavailable."""
        self._channel.close()


class _GrpcAppend:
    """A bidirectional call whose requests come from a small bounded queue."""

    def __init__(
        self,
        channel: grpc.Channel,
        server: _Server,
        metadata: tuple[tuple[str, str], ...],
        header: pb.AppendHeader,
    ) -> None:
        self._server = server
        self._changed = threading.Condition()
        self._outbox: deque[Framed[Message]] = deque()
        self._half_closed = False
        self._ended = False
        self._outbox.append(Framed(head=pb.AppendRequest(header=header), payload=()))
        start = channel.stream_stream(
            _APPEND.path,
            request_serializer=framing.encode,
            response_deserializer=pb.AppendResponse.FromString,
        )
        try:
            self._call = start(self._requests(), metadata=metadata)
        except ValueError as error:
            raise _closed(error) from error
        self._call.add_callback(self._end)

    def _requests(self) -> Iterator[Framed[Message]]:
        """Run by grpc's own thread, which takes no more than the connection does."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._outbox or self._half_closed or self._ended)
                if self._ended or not self._outbox:
                    return
                part = self._outbox.popleft()
                if len(self._outbox) <= _OUTBOX // 2:  # not for each: the threads would take turns
                    self._changed.notify_all()
            yield part

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def send(self, outgoing: Outgoing, part_bytes: int) -> None:
        """Hand a batch to the channel in parts; waits while the outbox is full."""
        for part in parts_of(outgoing, part_bytes):
            self._send(part)

    def _send(self, part: Framed[pb.AppendRequest]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._outbox) < _OUTBOX or self._ended)
            if self._ended or self._half_closed:
                raise ServerUnavailable(f"{self._server.address}: the stream ended; open it again")
            self._outbox.append(part)
            self._changed.notify_all()

    def receive(self) -> pb.AppendResponse | None:
        """Wait for an acknowledgement; None once the server ended the stream in good order."""
        try:
            return next(self._call, None)
        except grpc.RpcError as error:
            raise self._server.error(error) from None

    def half_close(self) -> None:
        """Say that no batch follows."""
        with self._changed:
            self._half_closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Cancel the call."""
        self._call.cancel()
        self._end()


class AsyncGrpcTransport:
    """Sends calls over gRPC for asyncio. Make it within the event loop that uses it."""

    def __init__(
        self, address: str, *, token: str | None = None, certificate: bytes | None = None
    ) -> None:
        """Open a channel; arguments as for :class:`GrpcTransport`."""
        self._server = _Server(address, has_tls=certificate is not None)
        self._metadata = _metadata(token)
        self._has_answered = False
        self._is_closed = False
        self._blocking: GrpcTransport | None = None
        self._again = lambda: GrpcTransport(address, token=token, certificate=certificate)
        if certificate is None:
            self._channel = grpc.aio.insecure_channel(address, channel_options(address))
        else:
            credentials = grpc.ssl_channel_credentials(certificate)
            self._channel = grpc.aio.secure_channel(address, credentials, channel_options(address))

    @property
    def address(self) -> str:
        """The server's address."""
        return self._server.address

    @property
    def blocking(self) -> GrpcTransport:
        """A second channel to the same place, for streams in threads; opened on first use."""
        if self._blocking is None:
            self._blocking = self._again()
        return self._blocking

    async def unary(self, method: Method, request: Message, timeout_s: float) -> Message:
        """Make a call that has one answer; made again as by :meth:`GrpcTransport.unary`."""
        patience = Patience(min(RESTART_S, timeout_s))
        while True:
            try:
                answer = await self._unary(method, request, timeout_s)
            except ServerUnavailable as error:
                if not (method.is_repeatable and self._has_answered):
                    raise
                await asyncio.sleep(patience.pause_s(error))
            else:
                self._has_answered = True
                return answer

    async def _unary(self, method: Method, request: Message, timeout_s: float) -> Message:
        call = self._channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        timeout = check_deadline(timeout_s)
        try:
            return await call(request, timeout=timeout, metadata=self._metadata)
        except grpc.aio.UsageError as error:
            raise _closed(error) from error
        except grpc.RpcError as error:
            raise self._server.error(error) from None
        except asyncio.CancelledError as error:
            self._check_open(error)
            raise

    def _check_open(self, error: asyncio.CancelledError) -> None:
        """Raise Conflict where it was closing the channel, and no task, that cancelled a call."""
        task = asyncio.current_task()
        if self._is_closed and (task is None or not task.cancelling()):
            raise _closed(error) from error

    async def stream(self, method: Method, request: Message) -> AsyncGenerator[Framed[Message]]:
        """Ask once, answer as a stream."""
        start = self._channel.unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=lambda raw: framing.decode(method.response, raw),
        )
        call = start(request, metadata=self._metadata)
        try:
            async for answer in call:
                yield answer
        except grpc.aio.UsageError as error:
            raise _closed(error) from error
        except grpc.RpcError as error:
            raise self._server.error(error) from None
        except asyncio.CancelledError as error:
            self._check_open(error)
            raise
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the channels; calls that run end with Conflict."""
        self._is_closed = True
        if self._blocking is not None:
            self._blocking.close()
        await self._channel.close()


def _closed(error: BaseException) -> Conflict:
    why = str(error) or "while the call ran"
    return Conflict(f"this client was closed ({why}): connect again")


__all__ = [
    "MESSAGE_BYTES",
    "AsyncGrpcTransport",
    "GrpcTransport",
    "channel_options",
]
