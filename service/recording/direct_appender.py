"""Writing past the owner of a store: an appender that makes a lane of its own on the storage.

The owner gives a ticket for the lane; rows go from this process to the disk. This works only where
this process sees the store's files. It proves that by reading a file that only the store's user can
read.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from isogloss.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    IsoglossError,
    LaneEnded,
    NotFound,
    NotPermitted,
    SequenceGap,
    ServerUnavailable,
)
from isogloss.service.recording import direct_requests
from isogloss.service.transport.patience import Patience
from isogloss.service.transport.plans import Pause, Plan, Running
from isogloss.service.transport.seam import Transport
from isogloss.store import DirectLaneWriter, RecordingSpec, RowBatch, open_direct_lane

T = TypeVar("T")

_log = logging.getLogger(__name__)

WINDOW_BYTES = 64 << 20
"""What may wait for the disk; beyond it a write waits."""

GROUP_BYTES = 32 << 20
"""What one group commit takes at most, unless a single batch is larger."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A batch that is not durable yet."""

    batch: RowBatch
    size: int


def find_storage(transport: Transport, root: Path | str | None, timeout_s: float) -> Path:
    """Return the store's root as this machine sees it.

    Args:
        transport: to the owner.
        root: where to look; None: where the owner says that it lies.
        timeout_s: how long the owner may take to answer.

    Raises:
        NotPermitted: this process does not see the storage, or may not read it.
    """
    return _prove(transport, root, timeout_s)[0]


def _prove(transport: Transport, root: Path | str | None, timeout_s: float) -> tuple[Path, str]:
    """Return the store's root here, and the content of its proof file."""
    storage = _run(transport, direct_requests.storage(), timeout_s)
    if not storage.root:
        raise NotPermitted(
            f"the store of {transport.address} has no direct lanes, since its storage has no "
            "locks: write through the server"
        )
    found = Path(root) if root is not None else Path(storage.root)
    name = Path(storage.proof_file).name  # a file of the root itself, whatever the server says
    try:
        return found, (found / name).read_text()
    except (OSError, ValueError) as error:
        raise NotPermitted(
            f"{found} does not show the storage of {transport.address} to this process ({error}): "
            "write through the server, or say where it is mounted here"
        ) from error


def _run(transport: Transport, plan: Plan[T], timeout_s: float) -> T:
    """Run a plan of unary calls over a transport."""
    running = Running(plan)
    while (step := running.step) is not None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            running.send(None)
            continue
        try:
            answer = transport.unary(step.method, step.request, timeout_s + step.extra_s)
        except IsoglossError as error:
            running.throw(error)
        else:
            running.send(answer)
    return running.result()


class DirectAppender:
    """Appends one producer's batches to a lane of its own. For one thread at a time.

    Batches that were written wait for the next group commit, which a thread makes. When the lane
    ends (a failed disk, or the owner ended it) another is asked for and what is not durable is
    written again: nothing acknowledged is lost and nothing is stored twice.
    """

    def __init__(
        self,
        transport: Transport,
        recording: RecordingSpec,
        producer: str,
        *,
        root: Path | str | None = None,
        timeout_s: float = 30.0,
        reconnect_s: float = 60.0,
    ) -> None:
        """Ask for a lane and create it.

        Args:
            transport: to the owner of the store.
            recording: what the batches are checked against.
            producer: name of this stream of batches, stable over restarts.
            root: the store as this machine sees it; None: where the owner says.
            timeout_s: how long the owner may take to answer.
            reconnect_s: how long to go on asking for a new lane after one ended.

        Raises:
            NotPermitted: this process does not see the storage, or may not write there.
            NotFound: no such recording.
            Conflict: the producer is writing another direct lane.
        """
        self._transport = transport
        self._spec = recording
        self._producer = producer
        self._root = root
        self._timeout_s = timeout_s
        self._reconnect_s = reconnect_s
        self._changed = threading.Condition()
        self._pending: deque[_Waiting] = deque()
        self._pending_bytes = 0
        self._closing = False
        self._error: IsoglossError | None = None
        self._lane = self._open()
        self._durable = self._last = self._lane.cursors[producer]
        name = f"isogloss-direct-{producer}"
        self._writer = threading.Thread(target=self._commit_all, name=name, daemon=True)
        self._writer.start()

    @property
    def producer(self) -> str:
        """Name of this stream of batches."""
        return self._producer

    @property
    def route(self) -> str:
        """How batches travel, in words."""
        return f"direct, lane {self._lane.name}"

    @property
    def lane(self) -> str:
        """Name of the lane being written."""
        return self._lane.name

    @property
    def next_sequence(self) -> int:
        """Sequence number that the next batch must have."""
        return self._last + 1

    @property
    def durable_sequence(self) -> int:
        """Last batch on the disk."""
        return self._durable

    @property
    def pending_bytes(self) -> int:
        """Bytes of batches written that are not durable yet."""
        return self._pending_bytes

    def __enter__(self) -> "DirectAppender":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(flush=error is None)

    def write(self, batch: RowBatch, timeout_s: float | None = None) -> None:
        """Hand a batch to the next group commit; its arrays must not change until it is durable.

        Args:
            batch: the next one of this producer.
            timeout_s: how long to wait for room; None: as long as it takes.

        Raises:
            SequenceGap: its sequence number is not the next.
            ShapeError: it does not fit the recording.
            InvalidInput: it names another producer, or an earlier batch was refused.
            DeadlineExceeded: there was no room in time; the batch was not taken.
        """
        if batch.producer != self._producer:
            raise InvalidInput(
                f"batch is of producer {batch.producer!r}, this stream of {self._producer!r}"
            )
        if batch.sequence != self.next_sequence:
            raise SequenceGap(
                f"batch has sequence {batch.sequence}, wanted {self.next_sequence}: number batches "
                "densely, from appender.next_sequence on"
            )
        batch.check(self._spec)
        size = sum(values.nbytes for values in batch.sites.values()) + 24 * batch.rows

        def fits() -> bool:
            return not self._pending or self._pending_bytes + size <= WINDOW_BYTES

        with self._changed:
            self._check_open()
            self._wait_until(fits, timeout_s, "there is room")
            self._pending.append(_Waiting(batch, size))
            self._pending_bytes += size
            self._last = batch.sequence
            self._changed.notify_all()

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until everything written is durable.

        Args:
            timeout_s: how long to wait; None: as long as it takes.

        Raises:
            DeadlineExceeded: it was not within ``timeout_s``.
            IsoglossError: why a batch was refused.
        """
        with self._changed:
            self._check_open()
            self._wait_until(lambda: not self._pending, timeout_s, "everything is durable")

    def close(self, *, flush: bool = True) -> None:
        """Seal the lane, by default once everything is durable. Later calls do nothing."""
        if self._closing:
            return
        try:
            if flush:
                self.flush()
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._writer.join()
            self._end_lane()

    def _check_open(self) -> None:
        if self._closing:
            raise Conflict("this appender was closed: open another one")

    def _wait_until(self, is_met: Callable[[], bool], timeout_s: float | None, what: str) -> None:
        met = self._changed.wait_for(lambda: self._error is not None or is_met(), timeout_s)
        if self._error is not None:
            raise self._error
        if not met:
            raise DeadlineExceeded(
                f"waited {timeout_s:g} s until {what}: {len(self._pending)} batches are not "
                f"durable, the last durable is {self._durable}"
            )

    # Lanes.

    def _open(self) -> DirectLaneWriter:
        root, proof = _prove(self._transport, self._root, self._timeout_s)
        plan = direct_requests.open_direct_lane(self._spec.recording, [self._producer], proof)
        lane = open_direct_lane(root, _run(self._transport, plan, self._timeout_s))
        if lane.ticket.spec != self._spec:
            lane.close()
            raise NotFound(
                f"recording {self._spec.recording!r} was replaced by another of that name: connect "
                "again"
            )
        return lane

    def _end_lane(self) -> None:
        try:
            self._lane.close()
        except IsoglossError:
            _log.warning("a direct lane was not sealed; its owner will", exc_info=True)

    # In the appender's own thread.

    def _commit_all(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                self._commit(group)
        except IsoglossError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next_group(self) -> list[_Waiting] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closing)
            if self._closing:
                return None
            group: list[_Waiting] = []
            size = 0
            for waiting in self._pending:
                if group and size + waiting.size > GROUP_BYTES:
                    break
                group.append(waiting)
                size += waiting.size
            return group

    def _commit(self, group: list[_Waiting]) -> None:
        try:
            self._lane.append([waiting.batch for waiting in group])
        except LaneEnded as error:
            self._replace_lane(error)
            return  # the group still waits, and what of it is durable the new lane knows
        with self._changed:
            for waiting in group:
                self._pending.popleft()
                self._pending_bytes -= waiting.size
            self._durable = group[-1].batch.sequence
            self._changed.notify_all()

    def _replace_lane(self, cause: LaneEnded) -> None:
        """Open another lane in place of one that ended; try for ``reconnect_s`` seconds.

        Args:
            cause: why the lane ended.

        Raises:
            ServerUnavailable: the owner did not answer in time.
            DeadlineExceeded: the owner did not answer in time.
            IsoglossError: no further try can help.
        """
        _log.warning("a direct lane ended, asking for another: %s", cause)
        self._end_lane()
        patience = Patience(self._reconnect_s)
        while True:
            try:
                self._lane = self._open()
            except (ServerUnavailable, DeadlineExceeded) as error:
                with self._changed:
                    if self._closing:
                        raise
                    self._changed.wait(patience.pause_s(error))
            else:
                return


__all__ = ["DirectAppender", "find_storage"]
