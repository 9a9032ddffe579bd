"""One Append on the server: parts come in, acknowledgements go out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from isogloss.errors import ResourceExhausted, ServerUnavailable
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.ingest.ingest import Session
from isogloss.service.server.call_limits import CallLimits
from isogloss.service.server.loop_wakes import LoopWakes
from isogloss.service.wire import framing

_DURABLE_S = 0.005
"""For how long it may be untold that a batch is durable, where its client sends on meanwhile.

To a bare grpc.aio server and back, 1 MiB with an answer each took 1.9 CPU seconds a GB, and 1.4
with an answer for eight.
"""
_RECEIVED_S = 0.1
"""For how long it may be untold that a batch was received and is not durable."""


class AppendCall:
    """One Append: a task that reads parts while the call itself writes acknowledgements.

    A client that waits for each batch is told at once that it is durable. One that sends on is told
    of several batches together, a little later.
    """

    def __init__(
        self,
        requests: AsyncIterator[bytes],
        draining: asyncio.Event,
        limits: CallLimits,
        wakes: LoopWakes,
    ) -> None:
        """Read nothing yet.

        Args:
            requests: the encoded messages behind the first one.
            draining: set once the server ends.
            limits: how slowly batches may come.
            wakes: of the running event loop.
        """
        self._requests = aiter(requests)
        self._limits = limits
        self._draining = draining
        self._wakes = wakes
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._reader: asyncio.Task[None] | None = None
        self._told = (0, 0)
        self._is_sending_on = False
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, start: Callable[[Callable[[], None]], Awaitable[Session]]) -> None:
        """Begin the session and the reading."""
        self._session = await start(self._notify)
        self._reader = asyncio.create_task(self._read(self._session))
        self._reader.add_done_callback(self._read_to_its_end)

    def _notify(self) -> None:
        """Called from the writer thread."""
        self._wakes.soon(self._wake)

    def _wake(self) -> None:
        self._room.set()
        self._look()

    def _read_to_its_end(self, reader: "asyncio.Task[None]") -> None:
        if not reader.cancelled():
            reader.exception()  # looked at also where the client has left and nobody is told
        self._changed.set()

    def _look(self) -> None:
        """See whether there is something to tell now, or when."""
        session, reader = self._session, self._reader
        if session is None or reader is None:
            return
        if session.error is not None or reader.done() or self._draining.is_set():
            self._changed.set()
        elif session.durable != self._told[1]:
            self._tell_in(_DURABLE_S if self._is_sending_on else 0.0)
        elif session.received != self._told[0]:
            self._tell_in(_RECEIVED_S)

    def _tell_in(self, seconds: float) -> None:
        if not seconds:
            self._changed.set()
        elif self._timer is None or self._timer.when() > self._loop.time() + seconds:
            self._stop_timer()
            self._timer = self._loop.call_later(seconds, self._changed.set)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _read(self, session: Session) -> None:
        idle_s, pace = self._limits.part_idle_s, self._limits.part_bytes_per_s
        left_s = 0.0  # for the batch that is half there; what it waits for room does not count
        while True:
            if session.has_partial_batch:
                began = self._loop.time()
                raw = await self._next_part(min(idle_s, left_s))
                left_s -= self._loop.time() - began
            else:
                raw = await anext(self._requests, None)
            if raw is None:
                return
            part = framing.decode(pb.AppendRequest, raw)
            if not session.has_partial_batch:
                left_s = idle_s + part.head.batch_bytes / pace
                self._is_sending_on = session.received > self._told[1]
            while not session.offer(part):
                self._room.clear()
                await self._room.wait()
            if not session.has_partial_batch:
                self._look()

    async def _next_part(self, seconds: float) -> bytes | None:
        """Return the next message of a batch that is half there; None where the stream ended."""
        try:
            async with asyncio.timeout(seconds):
                return await anext(self._requests, None)
        except TimeoutError:
            idle_s, pace = self._limits.part_idle_s, self._limits.part_bytes_per_s
            raise ResourceExhausted(
                f"a batch came too slowly: wanted a part each {idle_s:g} s and, beyond the "
                f"first {idle_s:g} s, {pace} bytes a second; open the stream again"
            ) from None

    async def acknowledgements(self) -> AsyncIterator[pb.AppendResponse]:
        """Yield where the stream stands: at once, then whenever that moved on."""
        session, reader = self._session, self._reader
        if session is None or reader is None:
            return
        self._told = (session.received, session.durable)
        yield session.acknowledgement()
        drained = asyncio.create_task(self._draining.wait())
        drained.add_done_callback(lambda _: self._changed.set())
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                self._stop_timer()
                now = (session.received, session.durable)
                if now != self._told:
                    self._told = now
                    yield session.acknowledgement()
                if session.error is not None:
                    raise session.error
                if reader.done() and not reader.cancelled():
                    reader.result()
                    is_told = self._told == (session.received, session.durable)
                    if is_told and (session.is_settled or session.has_partial_batch):
                        return
                elif self._draining.is_set():
                    reader.cancel()  # what came whole is committed, and told; no more is taken
                    if self._told == (session.durable, session.durable) == (session.received,) * 2:
                        raise ServerUnavailable(
                            "the server is shutting down; what it acknowledged is on the disk: "
                            "connect again"
                        )
        finally:
            drained.cancel()
            self._stop_timer()

    def close(self) -> None:
        """Stop reading and leave the session."""
        if self._reader is not None:
            self._reader.cancel()
        if self._session is not None:
            self._session.close()
