"""Write batches to a lane on the store's storage directly, not through the store's owner.

The owner hands out a ticket for a lane; then this process writes the lane's files. That works only
where this process sees the store's files. It proves so to the owner with a hash keyed with the
content of a file that only the store's user can read.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from isogloss.errors import (
    Conflict,
    DeadlineExceeded,
    InternalError,
    InvalidInput,
    IsoglossError,
    LaneEnded,
    NotFound,
    NotPermitted,
    SequenceGap,
    ServerUnavailable,
    StorageError,
)
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.call import Call, ask, then
from isogloss.service.transport.patience import Patience
from isogloss.service.transport.protocols import Transport
from isogloss.service.transport.run import run
from isogloss.service.values.direct_proof import (
    PROOF_NAME,
    SECRET_CHARACTERS,
    is_secret,
    make_proof,
)
from isogloss.service.wire.names import to_name
from isogloss.store import (
    DirectLaneWriter,
    RecordingSpec,
    RowBatch,
    open_direct_lane,
    read_private_file,
)

_log = logging.getLogger(__name__)

WINDOW_BYTES = 64 << 20
"""What may wait for the disk; beyond it a write waits."""

GROUP_BYTES = 32 << 20
"""What one group commit takes at most, unless a single batch is larger."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A batch that was written and is not durable yet."""

    batch: RowBatch
    size: int


def storage() -> Call[pb.Storage]:
    """Ask where the root lies on the owner's machine; the owner writes the proof file."""
    return ask(pb.GetStorageRequest(), pb.Storage)


def open_lane(name: str, producers: Sequence[str], proof: str) -> Call[bytes]:
    """Ask for a lane, and return the ticket with which this process may create it."""
    request = pb.OpenDirectLaneRequest(
        name=to_name("recordings", name), producers=producers, proof=proof
    )
    return then(ask(request, pb.DirectLane), lambda lane: lane.ticket)


def find_storage(transport: Transport, root: Path | str | None, timeout_s: float) -> Path:
    """Return the path of the store's root on this machine.

    Args:
        transport: the connection to the store's owner.
        root: where to look for the store; None: at the path that the owner has it under.
        timeout_s: how many seconds the owner may take to answer.

    Raises:
        NotPermitted: this process does not see the store's files, or may not read them.
    """
    return _find(transport, root, timeout_s)[0]


def _find(transport: Transport, root: Path | str | None, timeout_s: float) -> tuple[Path, bytes]:
    """Return the path of the store's root on this machine, and the secret in its proof file."""
    found_at = run(transport, storage(), timeout_s)
    if not found_at.root:
        raise NotPermitted(
            f"the store of {transport.address} has no direct lanes, since its storage has no "
            "locks: write through the server"
        )
    found = Path(root) if root is not None else Path(found_at.root)
    try:
        secret = read_private_file(found, PROOF_NAME, most_bytes=SECRET_CHARACTERS)
    except (IsoglossError, OSError, ValueError) as error:
        raise NotPermitted(
            f"{found} does not show the storage of {transport.address} to this process ({error}): "
            "write through the server, or say where it is mounted here"
        ) from error
    if not is_secret(secret):
        raise NotPermitted(
            f"{PROOF_NAME} in {found} holds no proof that a store's owner wrote: write through the "
            "server, or say where the store is mounted here"
        )
    return found, secret


class DirectAppender:
    """Writes one producer's batches to a direct lane. For one thread at a time.

    Another thread may call ``close(flush=False)`` only: a write or flush that waits then raises
    Conflict.

    Written batches wait for the next group commit, which a thread makes. If the lane ends (a failed
    disk, or the owner ended it), this asks the owner for another one and writes again what is not
    durable. So no acknowledged batch is lost and none is stored twice.
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
        """Ask the owner for a lane, and create it.

        Args:
            transport: the connection to the store's owner.
            recording: the recording's specification; each batch is checked against it.
            producer: name of this stream of batches. A restart gives the same name to go on.
            root: path of the store's root on this machine; None: the path that the owner has it
                under.
            timeout_s: how many seconds the owner may take to answer.
            reconnect_s: for how many seconds to ask for another lane after one ended.

        Raises:
            NotPermitted: this process does not see the store's files, or may not write there.
            NotFound: there is no such recording.
            Conflict: another process writes a direct lane for this producer.
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
        """Name of the producer, which a restart keeps."""
        return self._producer

    @property
    def route(self) -> str:
        """A text that says that batches go to the storage directly."""
        return f"direct, lane {self._lane.name}"

    @property
    def lane(self) -> str:
        """Name of the lane that is being written."""
        return self._lane.name

    @property
    def next_sequence(self) -> int:
        """Sequence number that the next batch must have."""
        return self._last + 1

    @property
    def durable_sequence(self) -> int:
        """Sequence number of the last batch that is on the disk."""
        return self._durable

    @property
    def batch_bytes(self) -> int:
        """Bytes of the largest batch that is taken: as many as may wait for the disk."""
        return WINDOW_BYTES

    @property
    def pending_bytes(self) -> int:
        """Bytes of the batches that were written and are not durable yet."""
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
        """Queue a batch for the next group commit, and return before it is durable.

        The batch's arrays must not change until it is durable.

        Args:
            batch: the producer's next batch.
            timeout_s: how many seconds to wait for room in the queue; None: without limit.

        Raises:
            SequenceGap: the batch's sequence number is not ``next_sequence``.
            ShapeError: the batch does not fit the recording.
            InvalidInput: the batch names another producer, or an earlier batch was refused.
            DeadlineExceeded: there was no room in time; the batch was not queued.
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
        """Wait until every batch written so far is durable.

        Args:
            timeout_s: how many seconds to wait; None: without limit.

        Raises:
            DeadlineExceeded: a batch is still not durable after ``timeout_s``.
            IsoglossError: a batch was refused; the error says why.
        """
        with self._changed:
            self._check_open()
            self._wait_until(lambda: not self._pending, timeout_s, "everything is durable")

    def close(self, *, flush: bool = True, timeout_s: float | None = None) -> None:
        """Seal the lane.

        By default first wait until every batch is durable. Later calls do nothing.

        Args:
            flush: whether to wait until every batch is durable.
            timeout_s: how many seconds to wait for that, and then for the group commit that runs;
                None: without limit. A lane that is not sealed in time is sealed by its owner.

        Raises:
            DeadlineExceeded: a batch is still not durable after ``timeout_s``; the stream is
                closed all the same.
        """
        if self._closing:
            return
        try:
            if flush:
                self.flush(timeout_s)
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._writer.join(timeout_s)
            if not self._writer.is_alive():
                self._end_lane()

    def _check_open(self) -> None:
        if self._closing:
            raise Conflict("this appender was closed: open another one")

    def _wait_until(self, is_met: Callable[[], bool], timeout_s: float | None, what: str) -> None:
        met = self._changed.wait_for(
            lambda: self._error is not None or self._closing or is_met(), timeout_s
        )
        if self._error is not None:
            raise self._error
        self._check_open()
        if not met:
            raise DeadlineExceeded(
                f"waited {timeout_s:g} s until {what}: {len(self._pending)} batches are not "
                f"durable, the last durable is {self._durable}"
            )

    # Lanes.

    def _open(self) -> DirectLaneWriter:
        root, secret = _find(self._transport, self._root, self._timeout_s)
        name, producers = self._spec.recording, [self._producer]
        call = open_lane(name, producers, make_proof(secret, name, producers))
        ticket = run(self._transport, call, self._timeout_s)
        try:
            lane = open_direct_lane(root, ticket)
        except FileNotFoundError as error:
            raise StorageError(
                f"recording {name!r} has no place for a lane in {root} ({error}): something else "
                "than the store removed it; run verify"
            ) from error
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
        except (IsoglossError, OSError) as error:
            _log.warning("a direct lane was not sealed, which its owner will do: %s", error)

    # In the appender's own thread.

    def _commit_all(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                self._commit(group)
        except IsoglossError as error:
            self._fail(error)
        except OSError as error:
            self._fail(StorageError(f"{self.route} cannot be written: {error}"))
        except Exception as error:  # whoever waits for this thread must learn that it ended
            _log.exception("a direct stream ended")
            self._fail(InternalError(f"{type(error).__name__} in a direct stream: {error}"))

    def _fail(self, error: IsoglossError) -> None:
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
            IsoglossError: an error came that another try cannot mend.
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
