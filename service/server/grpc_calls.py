"""The server's side of each call: bytes in, a handler in a thread, bytes or a status out."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from isogloss.errors import InvalidInput, ResourceExhausted
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.calls.all import ControlHandlers
from isogloss.service.calls.caller import BLOCK_BYTES, answer_for, called_by
from isogloss.service.calls.table import Streaming, Unary
from isogloss.service.server.append_call import AppendCall
from isogloss.service.server.call_limits import CallLimits
from isogloss.service.server.fair_threads import FairThreads, FairTurns
from isogloss.service.server.guards.token_guard import CallContext
from isogloss.service.server.guards.turns import Turns
from isogloss.service.server.job_calls import WAIT, WATCH, JobCalls
from isogloss.service.server.loop_wakes import LoopWakes
from isogloss.service.server.shares import Shares
from isogloss.service.wire import framing
from isogloss.service.wire.callers import client_of, place_of
from isogloss.service.wire.errors import ending_of
from isogloss.service.wire.framing import Framed, parse
from isogloss.service.wire.methods import METHODS, method_of
from isogloss.service.wire.names import from_name

Forward = Callable[[str, bytes, float | None], Awaitable[bytes]]

R = TypeVar("R")
T = TypeVar("T")

_APPEND = method_of(pb.AppendRequest, pb.AppendResponse)
_READING_SHARE = 16
"""Of the memory for what passes through, one byte in so many is for messages to who reads."""
_COPIES = 4
"""Of a message that waits for its reader: as it was read, encoded, and what grpc has of it."""
_SMALLEST_BLOCK = 64 << 10
_READING = 4
"""Threads that make messages of streams at a time. 64 of them kept Python's lock from all other
calls: a short one took 55 to 71 ms (p99), and beside four 25 to 29 (docs/design/044)."""
_MAKING_S = 0.05
"""A message that takes longer is waited for, as for an object store, and counts no more."""


class Calls:
    """All calls of a server as grpc handlers."""

    def __init__(
        self,
        handlers: ControlHandlers,
        forward: Forward,
        *,
        forwarded: Iterable[str],
        checked: Iterable[str] = (),
        limits: CallLimits | None = None,
    ) -> None:
        """Bind handlers to a running event loop.

        Args:
            handlers: the calls that this process answers.
            forward: sends a call to another process unchanged: path, bytes, timeout.
            forwarded: paths of the calls that the other process answers.
            checked: paths of the calls whose requests the other process checks before they are
                answered here.
            limits: how many calls are answered at a time, and how slowly batches may come.
        """
        self.draining = asyncio.Event()
        """Set once the server ends: producers are told to connect again."""
        self._limits = limits or CallLimits()
        self._wakes = LoopWakes()
        self._running = _Running()
        # those that wait have places of calls, which others need, too
        self._exhausted = Turns(self._limits.max_calls // 2, 1)
        self._handlers = handlers
        self._forwarded = tuple(forwarded)
        self._checked = frozenset(checked)
        self._forward = forward
        self._short = FairThreads(self._limits.threads, "isogloss-call")
        self._long = ThreadPoolExecutor(self._limits.streams, thread_name_prefix="isogloss-stream")
        self._streams = Shares(self._limits.streams, "streams")
        self._reading = FairTurns(_READING)
        self._jobs = JobCalls(handlers.jobs, self._short)

    def generic_handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return a handler for each service."""
        by_service: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
        for unary in self._handlers.unary.values():
            by_service.setdefault(unary.method.service, {})[unary.method.name] = (
                grpc.unary_unary_rpc_method_handler(_bind(self._unary, unary))
            )
        for path in self._forwarded:
            method = METHODS[path]
            by_service.setdefault(method.service, {})[method.name] = (
                grpc.unary_unary_rpc_method_handler(_bind(self._query, path))
            )
        for streaming in self._handlers.streaming.values():
            by_service.setdefault(streaming.method.service, {})[streaming.method.name] = (
                grpc.unary_stream_rpc_method_handler(_bind(self._stream, streaming))  # type: ignore[arg-type]
            )
        by_service[WAIT.service][WAIT.name] = grpc.unary_unary_rpc_method_handler(self._wait)
        by_service[WATCH.service][WATCH.name] = grpc.unary_stream_rpc_method_handler(self._watch)
        by_service[_APPEND.service][_APPEND.name] = grpc.stream_stream_rpc_method_handler(
            self._append
        )
        return [
            grpc.method_handlers_generic_handler(service, calls)
            for service, calls in by_service.items()
        ]

    def drain(self) -> None:
        """Tell producers to connect again, and let nobody wait to be refused: the server ends."""
        self.draining.set()
        self._exhausted.end()

    def _ending(self, context: CallContext) -> "_statuses":
        return _statuses(context, self._running, self._exhausted)

    async def until_idle(self, timeout_s: float) -> None:
        """Return once no call runs any more, or after ``timeout_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._running.idle.wait(), timeout_s)

    def close(self) -> None:
        """Let the threads end with what they do now."""
        self._short.close()
        self._long.shutdown(wait=False)
        self._jobs.close()

    async def _unary(self, handler: Unary, raw: bytes, context: CallContext) -> bytes:
        async with self._ending(context):
            if handler.method.path in self._checked:
                raw = await self._forward(handler.method.path, raw, context.time_remaining())
            request = parse(handler.method.request, raw)
            client = _client_of(context)
            answer = partial(answer_for, place_of(client), handler.answer)
            return (await self._short.run(client, answer, request)).SerializeToString()

    async def _query(self, path: str, raw: bytes, context: CallContext) -> bytes:
        async with self._ending(context):
            return await self._forward(path, raw, context.time_remaining())

    async def _wait(self, raw: bytes, context: CallContext) -> bytes:
        async with self._ending(context):
            return (await self._jobs.wait(raw, _client_of(context))).SerializeToString()

    # Messages of these are written one by one, not yielded: so that a call whose client takes none
    # can be ended, and its place given to another.

    async def _watch(self, raw: bytes, context: CallContext) -> None:
        idle_s = self._limits.read_idle_s
        async with (
            self._ending(context),
            contextlib.aclosing(self._jobs.watch(raw, _client_of(context))) as messages,
        ):
            async for message, place in messages:
                written = context.write(message.SerializeToString())
                await place.within(written, idle_s, _slow("watches a job", idle_s))

    async def _stream(self, handler: Streaming, raw: bytes, context: CallContext) -> None:
        loop, client = asyncio.get_running_loop(), _client_of(context)
        ends, idle_s = loop.time() + self._limits.read_total_s, self._limits.read_idle_s
        async with self._ending(context):
            request = parse(handler.method.request, raw)
            with self._streams.place(client) as place:
                async with contextlib.aclosing(self._answers(handler, request, client)) as found:
                    async for message in found:
                        if loop.time() > ends and handler.method.is_repeatable:
                            raise ResourceExhausted(
                                f"the stream was read for {self._limits.read_total_s / 3600:g} h, "
                                "which is the limit: read the rest with another call"
                            )
                        written = context.write(framing.encode(message))
                        del message  # what is written is held once, not also as it was read
                        await place.within(written, idle_s, _slow("reads a stream", idle_s))

    async def _answers(
        self, handler: Streaming, request: Message, client: str
    ) -> AsyncGenerator[Framed[Message]]:
        """Draw answers from a generator in a thread, each once the one before was taken."""
        answers = handler.answer(request)

        def draw() -> Framed[Message] | None:
            with called_by(place_of(client), self._block_bytes()):
                return next(answers, None)

        pending: Future[Framed[Message] | None] | None = None
        try:
            while True:
                await self._reading.take(client)
                pending = self._long.submit(draw)
                message = await self._made(pending, client)
                if message is None:
                    return
                pending, drawn = None, [message]
                del message  # the caller alone has it now: it may wait long for its reader
                yield drawn.pop()
        finally:
            _close_after(answers, pending)

    async def _made(self, pending: Future[T], client: str) -> T:
        """Return what a thread makes, and give the client's turn back."""
        made = asyncio.wrap_future(pending)
        try:
            await asyncio.wait((made,), timeout=_MAKING_S)
        except asyncio.CancelledError:
            made.cancel()
            raise
        finally:
            self._reading.give_back(client)
        return await made

    def _block_bytes(self) -> int:
        """Return how large messages of streams are made now: smaller where many are read."""
        budget = self._handlers.ingest.limits.held_bytes // _READING_SHARE
        fair = budget // (_COPIES * max(1, self._streams.taken))
        return min(BLOCK_BYTES, max(_SMALLEST_BLOCK, fair))

    async def _append(
        self, requests: AsyncIterator[bytes], context: CallContext
    ) -> AsyncIterator[bytes]:
        async with self._ending(context):
            stream = AppendCall(requests, self.draining, self._limits, self._wakes)
            try:
                first = await self._first(requests)
                header = framing.decode(pb.AppendRequest, first or b"").head.header
                recording = from_name("recordings", header.recording)
                client, open_session = _client_of(context), self._handlers.ingest.open
                await stream.open(
                    lambda notify: self._short.run(
                        client,
                        lambda producer: open_session(recording, producer, notify, client),
                        header.producer,
                    )
                )
                async for acknowledgement in stream.acknowledgements():
                    yield acknowledgement.SerializeToString()
            except DecodeError as error:
                raise InvalidInput(f"a message is no AppendRequest: {error}") from error
            finally:
                stream.close()

    async def _first(self, requests: AsyncIterator[bytes]) -> bytes | None:
        """Return the header of a stream, None where that ended without one."""
        idle_s = self._limits.part_idle_s
        try:
            async with asyncio.timeout(idle_s):
                return await anext(aiter(requests), None)
        except TimeoutError:
            raise ResourceExhausted(
                f"a stream of batches did not begin within {idle_s:g} s: send its header first"
            ) from None


def _slow(what: str, idle_s: float) -> str:
    return (
        f"the client that {what} took no message for {idle_s:g} s: call again for the rest, "
        "and take messages as they come"
    )


def _client_of(context: CallContext) -> str:
    """Return from where a call comes, without the port, and which process says it makes it."""
    return client_of(context.peer(), context.invocation_metadata())


# grpc asks whether what it is given is a coroutine function or an asynchronous generator.


def _bind(
    answer: Callable[[T, bytes, CallContext], Awaitable[R]], handler: T
) -> Callable[[bytes, CallContext], Awaitable[R]]:
    async def call(raw: bytes, context: CallContext) -> R:
        return await answer(handler, raw, context)

    return call


class _statuses:
    """Ends the call with the status of whatever error leaves the block.

    Calls beyond a limit end in turns: 576 that called again 0.2 s after each refusal made another
    client's append take 100 to 147 ms (p99), and 26 to 60 in turns.
    """

    def __init__(self, context: CallContext, running: "_Running", exhausted: Turns) -> None:
        self._context = context
        self._running = running
        self._exhausted = exhausted

    async def __aenter__(self) -> None:
        self._running.add(1)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        self._running.add(-1)
        if isinstance(error, ResourceExhausted):
            await self._exhausted.turn(_client_of(self._context))
        if isinstance(error, Forwarded):
            await self._context.abort(error.code, error.text, error.trailers)
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            await self._context.abort(*ending_of(error))


class _Running:
    """How many calls run."""

    def __init__(self) -> None:
        self._count = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def add(self, more: int) -> None:
        self._count += more
        if self._count:
            self.idle.clear()
        else:
            self.idle.set()


class Forwarded(Exception):
    """The status with which the query process ended a call."""

    def __init__(
        self, code: grpc.StatusCode, text: str, trailers: tuple[tuple[str, str | bytes], ...]
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.trailers = trailers


def _close_after(answers: Iterator[object], pending: Future[T] | None) -> None:
    """Close a generator once its running step, if any, is over."""

    def close(_: object) -> None:
        end = getattr(answers, "close", None)
        if end is not None:
            with contextlib.suppress(Exception):
                end()

    if pending is None or pending.done():
        close(None)
    else:
        pending.add_done_callback(close)
