"""Send batches to the owner of a store, and send them again after a lost connection.

The window is the number of bytes that may be on their way: sent, but not yet acknowledged as
durable. The owner sets it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from isogloss.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    IsoglossError,
    LaneEnded,
    ResourceExhausted,
    SequenceGap,
    ServerUnavailable,
)
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.outgoing import Outgoing
from isogloss.service.transport.patience import Patience
from isogloss.service.transport.protocols import AppendStream, Transport
from isogloss.service.wire.names import to_name
from isogloss.store import RecordingSpec, RowBatch

_POLL_S = 0.5
"""How often a wait looks whether the connection was lost meanwhile."""


@dataclass(slots=True)
class _Acknowledged:
    """The owner's last acknowledgement."""

    received: int = 0
    durable: int = 0
    rows: int = 0
    window_bytes: int = 0
    part_bytes: int = 0
    batch_bytes: int = 0


class BatchStream(Protocol):
    """One producer's stream of batches.

    They are sent to the store's owner, or written to the storage directly.
    """

    @property
    def producer(self) -> str:
        """Name of the producer, which a restart keeps."""
        ...

    @property
    def route(self) -> str:
        """A text that says whether batches go to the storage directly or through the owner.

        Where a direct stream was wanted but not possible, it also says why.
        """
        ...

    @property
    def next_sequence(self) -> int:
        """Sequence number that the next batch must have."""
        ...

    @property
    def durable_sequence(self) -> int:
        """Sequence number of the last batch that is on the disk."""
        ...

    @property
    def batch_bytes(self) -> int:
        """Bytes of the largest batch that is taken."""
        ...

    def __enter__(self) -> "BatchStream": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def write(self, batch: RowBatch, timeout_s: float | None = None) -> None:
        """Queue a batch, and return before it is durable.

        The batch's arrays must not change until it is durable.
        """
        ...

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every batch written so far is durable."""
        ...

    def close(self, *, flush: bool = True, timeout_s: float | None = None) -> None:
        """End the stream. By default first wait until every batch is durable.

        Without ``flush`` another thread may call this, to end what the stream waits for.
        """
        ...


class Appender:
    """Sends one producer's batches to the store's owner. For one thread at a time.

    Another thread may call ``close(flush=False)`` only: a write or flush that waits then raises
    Conflict.

    It keeps each batch until the owner acknowledged it as durable. After a lost connection it
    reconnects, asks which batch is the last durable one, and sends those after it again. So no
    acknowledged batch is lost and none is stored twice.
    """

    def __init__(
        self,
        transport: Transport,
        recording: RecordingSpec,
        producer: str,
        *,
        timeout_s: float = 30.0,
        reconnect_s: float = 60.0,
        why_not_direct: str = "",
    ) -> None:
        """Open the stream.

        Args:
            transport: the connection to the store's owner.
            recording: the recording's specification; each batch is checked against it before it is
                sent.
            producer: name of this stream of batches. A restart gives the same name to go on.
            timeout_s: how many seconds the owner may take to answer the first time.
            reconnect_s: for how many seconds to try to reconnect after the connection was lost.
            why_not_direct: why no direct lane could be written, for ``route``; empty where none was
                wanted.

        Raises:
            NotFound: there is no such recording.
            ServerUnavailable: no server answers.
        """
        self._transport = transport
        self._spec = recording
        self._header = pb.AppendHeader(
            recording=to_name("recordings", recording.recording), producer=producer
        )
        self._timeout_s = timeout_s
        self._patience = Patience(reconnect_s)
        self._durable_at_break = -1
        self._why_not_direct = why_not_direct
        self._changed = threading.Condition()
        self._pending: deque[Outgoing] = deque()
        self._acknowledged = _Acknowledged()
        self._stream: AppendStream | None = None
        self._broken: IsoglossError | None = None
        self._generation = 0
        self._last = 0
        self._closed = False
        self._connect()
        self._last = self._acknowledged.durable

    @property
    def producer(self) -> str:
        """Name of the producer, which a restart keeps."""
        return self._header.producer

    @property
    def route(self) -> str:
        """A text with the owner's address and, if a direct lane was wanted, why there is none."""
        why = f"; not direct: {self._why_not_direct}" if self._why_not_direct else ""
        return f"through {self._transport.address}{why}"

    @property
    def next_sequence(self) -> int:
        """Sequence number that the next batch must have."""
        return self._last + 1

    @property
    def durable_sequence(self) -> int:
        """Sequence number of the last batch that is on the owner's disk."""
        return self._acknowledged.durable

    @property
    def batch_bytes(self) -> int:
        """Bytes of the largest batch that the owner takes."""
        return self._acknowledged.batch_bytes

    @property
    def pending_bytes(self) -> int:
        """Bytes of the batches that were written and are not durable yet."""
        with self._changed:
            return sum(pending.size for pending in self._pending)

    def __enter__(self) -> "Appender":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(flush=error is None)

    def write(self, batch: RowBatch, timeout_s: float | None = None) -> None:
        """Send a batch; return when it was handed to the connection, before it is durable.

        Its arrays must not change until it is durable.

        Args:
            batch: the producer's next batch.
            timeout_s: how many seconds to wait for room in the window; None: without limit.

        Raises:
            SequenceGap: the batch's sequence number is not ``next_sequence``.
            ShapeError: the batch does not fit the recording.
            InvalidInput: the batch names another producer, or the owner refused an earlier batch.
            ResourceExhausted: the batch is larger than the owner accepts.
            DeadlineExceeded: there was no room in the window in time; the batch was not sent.
        """
        self._check_open()
        if batch.producer != self.producer:
            raise InvalidInput(
                f"batch is of producer {batch.producer!r}, this stream of {self.producer!r}"
            )
        if batch.sequence != self.next_sequence:
            raise SequenceGap(
                f"batch has sequence {batch.sequence}, wanted {self.next_sequence}: number batches "
                "densely, from appender.next_sequence on"
            )
        batch.check(self._spec)
        outgoing = self._transport.outgoing(batch)
        largest = self._acknowledged.batch_bytes
        if outgoing.size > largest:
            raise ResourceExhausted(
                f"batch has {outgoing.size} bytes, the server takes {largest}: put fewer rows in a "
                "batch"
            )
        self._wait_for_window(outgoing.size, timeout_s)
        with self._changed:
            self._pending.append(outgoing)
        self._last = batch.sequence
        self._send([outgoing])

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every batch written so far is durable.

        Args:
            timeout_s: how many seconds to wait; None: without limit.

        Raises:
            DeadlineExceeded: a batch is still not durable after ``timeout_s``.
            IsoglossError: the owner refused a batch; the error says why.
        """
        self._check_open()
        self._wait_until(lambda: not self._pending, timeout_s, "everything is durable")

    def close(self, *, flush: bool = True, timeout_s: float | None = None) -> None:
        """End the stream.

        By default first wait until every batch is durable. Later calls do nothing.

        Args:
            flush: whether to wait until every batch is durable.
            timeout_s: how many seconds to wait for that; None: without limit.

        Raises:
            DeadlineExceeded: a batch is still not durable after ``timeout_s``; the stream is
                closed all the same.
        """
        if self._closed:
            return
        try:
            if flush:
                self.flush(timeout_s)
                if self._stream is not None:
                    self._stream.half_close()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._drop_stream()

    def _check_open(self) -> None:
        if self._closed:
            raise Conflict("this appender was closed: open another one")

    # Connections.

    def _connect(self) -> None:
        """Open a stream, read which batch is the last durable one, and send later ones again."""
        stream = self._transport.append(self._header)
        timer = threading.Timer(self._timeout_s, stream.close)
        timer.daemon = True
        timer.start()
        try:
            first = stream.receive()
        finally:
            timer.cancel()
        if first is None:
            raise ServerUnavailable(f"{self._transport.address}: the stream ended at once; retry")
        with self._changed:
            is_closed = self._closed
            if not is_closed:
                self._stream = stream
                self._broken = None
                self._generation += 1
                self._take(first)
            generation = self._generation
        if is_closed:
            stream.close()
            self._check_open()
        name = f"isogloss-append-{self.producer}"
        reader = threading.Thread(
            target=self._read, args=(stream, generation), name=name, daemon=True
        )
        reader.start()

    def _read(self, stream: AppendStream, generation: int) -> None:
        """Read acknowledgements until the stream ends; a thread of each stream runs this."""
        ended: IsoglossError = ServerUnavailable(
            f"{self._transport.address}: the stream ended; connect again"
        )
        try:
            while (message := stream.receive()) is not None:
                with self._changed:
                    if generation != self._generation:
                        return
                    self._take(message)
        except IsoglossError as error:
            ended = error
        with self._changed:
            if generation == self._generation:
                self._broken = ended
                self._changed.notify_all()

    def _take(self, message: pb.AppendResponse) -> None:
        said = self._acknowledged
        said.received, said.durable = message.received, max(message.durable, said.durable)
        said.rows, said.window_bytes = message.rows, message.window_bytes
        said.part_bytes, said.batch_bytes = max(1, message.part_bytes), message.batch_bytes
        while self._pending and self._pending[0].batch.sequence <= said.durable:
            self._pending.popleft()
        self._changed.notify_all()

    def _drop_stream(self) -> None:
        with self._changed:
            self._generation += 1
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _reconnect(self, cause: IsoglossError) -> None:
        """Open the stream again and send what is not durable; try for ``reconnect_s`` seconds.

        Args:
            cause: why the stream ended. Raised at once, unless the connection or the owner's lane
                was lost.

        Raises:
            SequenceGap: the owner has fewer batches on its disk than it acknowledged before.
            Conflict: the stream was closed meanwhile.
            IsoglossError: ``cause``, or the error of the last try.
        """
        if self._acknowledged.durable > self._durable_at_break or not self._pending:
            self._patience.reset()
        elif isinstance(cause, ServerUnavailable | LaneEnded):
            # no batch became durable since the stream broke before
            self._pause(self._patience.pause_s(cause))
        self._durable_at_break = self._acknowledged.durable
        while True:
            self._check_open()
            if not isinstance(cause, ServerUnavailable | LaneEnded):
                raise cause
            self._drop_stream()
            try:
                self._connect()
            except (ServerUnavailable, LaneEnded) as error:
                cause = error
                self._pause(self._patience.pause_s(error))
                continue
            with self._changed:
                again = list(self._pending)
                if again and again[0].batch.sequence > self._acknowledged.received + 1:
                    raise SequenceGap(
                        f"the server has batches up to {self._acknowledged.received} and "
                        f"{again[0].batch.sequence} is the first kept here: its store went back"
                    )
            if self._try_send(again):
                return
            cause = self._broken or cause

    def _pause(self, seconds: float) -> None:
        """Wait between two tries; closing the stream ends the wait."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)

    # Sending and waiting.

    def _send(self, batches: list[Outgoing]) -> None:
        if not self._try_send(batches):
            self._reconnect(self._cause())

    def _try_send(self, batches: list[Outgoing]) -> bool:
        """Send batches; return False where the stream broke before all were sent."""
        stream = self._stream
        if stream is None:
            return False
        try:
            for outgoing in batches:
                stream.send(outgoing, self._acknowledged.part_bytes)
        except ServerUnavailable:
            return False
        except IsoglossError as error:
            with self._changed:
                self._broken = error
            return False
        return True

    def _cause(self) -> IsoglossError:
        """Return why the stream broke, waiting a moment for the reading thread to say it."""
        with self._changed:
            self._changed.wait_for(lambda: self._broken is not None, 1.0)
            return self._broken or ServerUnavailable(
                f"{self._transport.address}: the stream ended; connect again"
            )

    def _wait_for_window(self, size: int, timeout_s: float | None) -> None:
        def fits() -> bool:
            held = sum(pending.size for pending in self._pending)
            return not held or held + size <= self._acknowledged.window_bytes

        self._wait_until(fits, timeout_s, "the window has room")

    def _wait_until(self, is_met: Callable[[], bool], timeout_s: float | None, what: str) -> None:
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                self._check_open()
                if self._broken is None and is_met():
                    return
                broken = self._broken
                if broken is None:
                    left = _POLL_S if end is None else min(_POLL_S, end - time.monotonic())
                    if left <= 0:
                        raise DeadlineExceeded(
                            f"waited {timeout_s:g} s until {what}: {len(self._pending)} batches "
                            f"are not durable, the last durable is {self.durable_sequence}"
                        )
                    self._changed.wait(left)
            if broken is not None:
                self._reconnect(broken)
