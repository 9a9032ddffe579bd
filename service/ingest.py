"""Ingest: parts in, batches out, one writer thread that commits all producers together.

A producer's stream is a :class:`Session`. Parts are checked as they come and joined to batches;
whole batches wait, within a bound, for the writer thread, which gives everything that waits for a
recording to its lane in one group commit. Acknowledgements are cumulative at two levels: *received*
(held in memory, nothing before it missing) and *durable* (on disk).
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import xxhash

from isogloss.errors import (
    Conflict,
    Fenced,
    InternalError,
    InvalidInput,
    IsoglossError,
    LaneEnded,
    ResourceExhausted,
    SequenceGap,
)
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.wire import Framed
from isogloss.store import LaneWriter, Recording, RowBatch, Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestLimits:
    """What one server holds and takes; all finite."""

    part_bytes: int = 1 << 20
    """Payload of a part that clients are asked to send; up to four times as much is taken."""
    batch_bytes: int = 64 << 20
    """Largest batch."""
    window_bytes: int = 32 << 20
    """What a producer may send beyond what is durable."""
    held_bytes: int = 256 << 20
    """Batches in memory over all producers; beyond it nothing is read from the network."""
    group_bytes: int = 64 << 20
    """What one group commit takes at most, unless a single batch is larger."""
    sessions: int = 512
    """Producers at a time."""
    idle_lane_s: float = 5.0
    """How long a lane stays open after its last producer left."""

    def __post_init__(self) -> None:
        if not 0 < self.part_bytes <= self.batch_bytes <= self.held_bytes:
            raise InvalidInput(
                f"limits must grow: part {self.part_bytes}, batch {self.batch_bytes}, "
                f"held {self.held_bytes} bytes"
            )
        if min(self.window_bytes, self.group_bytes, self.sessions) < 1:
            raise InvalidInput("limits on the window, the group and the sessions must be positive")


class _Assembly:
    """The parts of one batch as they arrive."""

    def __init__(self, head: pb.AppendRequest) -> None:
        self.sequence = head.sequence
        self.parts = head.parts
        self.size = head.batch_bytes
        self.next_part = 0
        self.filled = 0
        self._buffer = bytearray(self.size) if head.parts > 1 else None
        self._single: memoryview | None = None

    def add(self, payload: memoryview) -> None:
        if self._buffer is None:
            self._single = payload  # the message's own bytes: not copied
        else:
            self._buffer[self.filled : self.filled + payload.nbytes] = payload
        self.filled += payload.nbytes
        self.next_part += 1

    def content(self) -> memoryview:
        if self._single is not None:
            return self._single
        return memoryview(self._buffer or b"").toreadonly()


class Session:
    """One producer's stream into a recording. Made by :meth:`Ingest.open`."""

    def __init__(
        self,
        ingest: "Ingest",
        recording: Recording,
        producer: str,
        durable: int,
        notify: Callable[[], None],
    ) -> None:
        self.recording = recording
        self.producer = producer
        self.received = durable
        self.durable = durable
        self.rows = 0
        self.error: IsoglossError | None = None
        self.notify = notify
        self._ingest = ingest
        self._assembly: _Assembly | None = None

    @property
    def is_settled(self) -> bool:
        """Whether everything received is durable and no batch is half there."""
        return self.durable == self.received and self._assembly is None

    @property
    def has_partial_batch(self) -> bool:
        """Whether a batch has begun and not ended."""
        return self._assembly is not None

    def acknowledgement(self) -> pb.AppendResponse:
        """Return where the stream stands."""
        limits = self._ingest.limits
        return pb.AppendResponse(
            received=self.received,
            durable=self.durable,
            rows=self.rows,
            window_bytes=limits.window_bytes,
            part_bytes=limits.part_bytes,
            batch_bytes=limits.batch_bytes,
        )

    def offer(self, part: Framed[pb.AppendRequest]) -> bool:
        """Take the next part of the stream.

        Returns:
            False where memory for its batch is not free now: nothing was taken; wait for
            ``notify`` and offer it again.

        Raises:
            InvalidInput: the part is malformed, or its batch does not fit the recording.
            SequenceGap: a batch before this one is missing.
            ResourceExhausted: the batch is larger than the limit.
            Fenced: a newer session of the same producer took over.
            IsoglossError: what ended this session earlier.
        """
        if self.error is not None:
            raise self.error
        head = part.head
        if len(part.payload) != 1:
            raise InvalidInput("a part has no payload: each part carries bytes of its batch")
        payload = part.payload[0]
        if self._assembly is None:
            if head.sequence <= self.received:
                return True  # a repeat of what is held or on disk: acknowledged, not stored again
            self._check_first(head)
            if not self._ingest.reserve(head.batch_bytes):
                return False
            self._assembly = _Assembly(head)
        self._add(self._assembly, head, payload)
        return True

    def close(self) -> None:
        """End the session; what was received whole is still committed."""
        self._ingest.leave(self)
        if self._assembly is not None:
            self._ingest.release(self._assembly.size)
            self._assembly = None

    def _check_first(self, head: pb.AppendRequest) -> None:
        limits = self._ingest.limits
        if head.sequence != self.received + 1:
            raise SequenceGap(
                f"producer {self.producer!r} sent batch {head.sequence}, wanted "
                f"{self.received + 1}: send the batches between them first"
            )
        if head.part != 0:
            raise InvalidInput(f"batch {head.sequence} begins with part {head.part}, wanted 0")
        if not 1 <= head.parts <= head.batch_bytes:
            raise InvalidInput(
                f"batch {head.sequence} of {head.batch_bytes} bytes has {head.parts} parts, "
                "wanted at least one, and at least a byte in each"
            )
        if head.batch_bytes > limits.batch_bytes:
            raise ResourceExhausted(
                f"batch {head.sequence} has {head.batch_bytes} bytes, the limit is "
                f"{limits.batch_bytes}: send fewer rows in a batch"
            )

    def _add(self, assembly: _Assembly, head: pb.AppendRequest, payload: memoryview) -> None:
        found = (head.sequence, head.part, head.parts, head.batch_bytes)
        wanted = (assembly.sequence, assembly.next_part, assembly.parts, assembly.size)
        if found != wanted:
            raise InvalidInput(
                f"part (batch, part, parts, bytes) {found} does not continue the batch: "
                f"wanted {wanted}"
            )
        largest = 4 * self._ingest.limits.part_bytes
        if payload.nbytes > min(largest, assembly.size - assembly.filled):
            raise InvalidInput(
                f"part {head.part} of batch {head.sequence} has {payload.nbytes} bytes, wanted at "
                f"most {min(largest, assembly.size - assembly.filled)}"
            )
        if xxhash.xxh3_64_intdigest(payload) != head.xxh3:
            raise InvalidInput(
                f"part {head.part} of batch {head.sequence} does not match its xxh3 checksum: it "
                "changed on the way; send it again"
            )
        assembly.add(payload)
        if assembly.next_part == assembly.parts:
            self._finish(assembly)

    def _finish(self, assembly: _Assembly) -> None:
        if assembly.filled != assembly.size:
            raise InvalidInput(
                f"batch {assembly.sequence} has {assembly.filled} bytes in its {assembly.parts} "
                f"parts, wanted {assembly.size}"
            )
        batch = RowBatch.decode(assembly.content(), self.recording.spec)
        if (batch.producer, batch.sequence) != (self.producer, assembly.sequence):
            raise InvalidInput(
                f"batch says it is {batch.sequence} of {batch.producer!r}, its parts say "
                f"{assembly.sequence} of {self.producer!r}"
            )
        self._assembly = None
        self.received = assembly.sequence
        self._ingest.enqueue(self, batch, assembly.size)


@dataclass(frozen=True, slots=True)
class _Waiting:
    session: Session
    batch: RowBatch
    size: int


class Ingest:
    """All streams into one store. Thread-safe; owns the writer thread and the open lanes."""

    def __init__(self, store: Store, limits: IngestLimits | None = None) -> None:
        self.limits = limits or IngestLimits()
        self._store = store
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._sessions: dict[tuple[str, str], Session] = {}
        self._lanes: dict[str, LaneWriter] = {}
        self._held = 0
        self._busy: str | None = None  # uid of the recording being committed
        self._closed = False
        self._writer = threading.Thread(target=self._run, name="isogloss-ingest", daemon=True)
        self._writer.start()

    @property
    def held_bytes(self) -> int:
        """Bytes of batches in memory now."""
        return self._held

    @property
    def sessions(self) -> int:
        """Open sessions."""
        return len(self._sessions)

    def open(self, recording: str, producer: str, notify: Callable[[], None]) -> Session:
        """Begin a producer's stream; an older one of the same producer is fenced off.

        Args:
            recording: id of the recording.
            producer: name of the stream of batches, stable over restarts of its writer.
            notify: called, from any thread, when an acknowledgement or room in memory may be new.

        Raises:
            NotFound: no such recording.
            ResourceExhausted: too many producers at once.
        """
        if not producer or len(producer) > 256:
            raise InvalidInput(
                f"producer name has {len(producer)} characters, wanted 1 to 256, such as 'rank-0'"
            )
        found = self._store.recording(recording)
        key = (found.uid, producer)
        with self._changed:
            self._check_open()
            older = self._sessions.pop(key, None)
            if older is not None:
                self._fence(older)
            elif len(self._sessions) >= self.limits.sessions:
                raise ResourceExhausted(
                    f"{len(self._sessions)} producers are connected, which is the limit: close "
                    "some, or send through fewer"
                )
            # What earlier sessions left may still be committed, and the answer must count it.
            self._changed.wait_for(
                lambda: (
                    self._busy != found.uid
                    and not any(
                        (w.session.recording.uid, w.session.producer) == key for w in self._waiting
                    )
                )
            )
            lane = self._lanes.get(found.uid)
            live = 0 if lane is None else lane.cursors.get(producer, 0)
            durable = max(found.cursor(producer), live)
            session = Session(self, found, producer, durable, notify)
            session.rows = 0 if lane is None else lane.rows
            self._sessions[key] = session
            return session

    def reserve(self, size: int) -> bool:
        """Set memory aside for a batch; False where there is none now."""
        with self._changed:
            if self._held and self._held + size > self.limits.held_bytes:
                return False
            self._held += size
            return True

    def release(self, size: int) -> None:
        """Give memory back and tell those who wait for it."""
        with self._changed:
            self._held -= size
            sessions = list(self._sessions.values())
        _notify(sessions)

    def enqueue(self, session: Session, batch: RowBatch, size: int) -> None:
        """Hand a whole batch to the writer thread."""
        with self._changed:
            self._waiting.append(_Waiting(session, batch, size))
            self._changed.notify_all()

    def leave(self, session: Session) -> None:
        """Forget a session; its waiting batches are still committed."""
        key = (session.recording.uid, session.producer)
        with self._changed:
            if self._sessions.get(key) is session:
                del self._sessions[key]

    def forget(self, recording_uid: str) -> None:
        """End every session and the lane of a recording that is about to be deleted."""
        gone = Conflict("the recording was deleted")
        with self._changed:
            doomed = [s for (uid, _), s in self._sessions.items() if uid == recording_uid]
            self._drop_waiting(doomed, gone)
            self._changed.wait_for(lambda: self._busy != recording_uid)
            lane = self._lanes.pop(recording_uid, None)
        if lane is not None:
            lane.close()
        _notify(doomed)

    def close(self) -> None:
        """Commit what waits, close the lanes and end the writer thread."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._writer.join()
        for lane in self._lanes.values():
            _close_lane(lane)
        self._lanes.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise Conflict("the store is being closed: open it again")

    def _fence(self, older: Session) -> None:
        self._drop_waiting(
            [older],
            Fenced(
                f"a newer writer opened producer {older.producer!r}: this one ends; give each "
                "writer its own producer name"
            ),
        )
        older.notify()

    def _drop_waiting(self, doomed: Iterable[Session], error: IsoglossError) -> None:
        gone = set(map(id, doomed))
        for session in doomed:
            session.error = session.error or error
        kept = [w for w in self._waiting if id(w.session) not in gone]
        self._held -= sum(w.size for w in self._waiting) - sum(w.size for w in kept)
        self._waiting = deque(kept)

    # The writer thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                idle = self.limits.idle_lane_s if self._lanes else None
                woken = self._changed.wait_for(lambda: self._waiting or self._closed, idle)
                group = self._take_group()
                done = self._closed and not group
            if done:
                return
            if group:
                self._commit(group)
            elif not woken:
                self._close_idle_lanes()

    def _take_group(self) -> list[_Waiting]:
        """Take what waits for one recording, in order, up to the size of a group."""
        if not self._waiting:
            return []
        uid = self._waiting[0].session.recording.uid
        group: list[_Waiting] = []
        rest: deque[_Waiting] = deque()
        size = 0
        is_full = False
        for waiting in self._waiting:
            is_ours = waiting.session.recording.uid == uid
            is_full = is_full or (
                is_ours and bool(group) and size + waiting.size > self.limits.group_bytes
            )
            if is_ours and not is_full:
                group.append(waiting)
                size += waiting.size
            else:
                rest.append(waiting)
        self._waiting = rest
        self._busy = uid
        return group

    def _commit(self, group: list[_Waiting]) -> None:
        try:
            self._append(group)
        except IsoglossError as error:
            if isinstance(error, InvalidInput) and len({id(w.session) for w in group}) > 1:
                self._commit_each(group)
            else:
                self._fail(group, error)
        except Exception as error:  # the writer thread must outlive a defect in a lower room
            _log.exception("group commit failed")
            self._fail(group, InternalError(f"{type(error).__name__} while committing: {error}"))
        with self._changed:
            self._held -= sum(waiting.size for waiting in group)
            self._busy = None
            sessions = list(self._sessions.values())
            self._changed.notify_all()
        _notify({*sessions, *(waiting.session for waiting in group)})

    def _commit_each(self, group: list[_Waiting]) -> None:
        """Commit by session, so that one producer's bad batch stops only that producer."""
        by_session: dict[int, list[_Waiting]] = {}
        for waiting in group:
            by_session.setdefault(id(waiting.session), []).append(waiting)
        for batches in by_session.values():
            try:
                self._append(batches)
            except IsoglossError as error:
                self._fail(batches, error)

    def _append(self, group: list[_Waiting]) -> None:
        recording = group[0].session.recording
        lane = self._lanes.get(recording.uid)
        if lane is None:
            lane = self._lanes[recording.uid] = recording.open_lane()
        lane.append([waiting.batch for waiting in group])
        rows = lane.rows
        for waiting in group:
            waiting.session.durable = max(waiting.session.durable, waiting.batch.sequence)
            waiting.session.rows = rows

    def _fail(self, group: list[_Waiting], error: IsoglossError) -> None:
        """End the sessions of a group; what it held is not durable and will be sent again."""
        doomed = {id(waiting.session): waiting.session for waiting in group}
        if isinstance(error, LaneEnded):
            lane = self._lanes.pop(group[0].session.recording.uid, None)
            if lane is not None:
                _close_lane(lane)
        with self._changed:
            self._drop_waiting(list(doomed.values()), error)

    def _close_idle_lanes(self) -> None:
        with self._changed:
            used = {uid for uid, _ in self._sessions}
            idle = [uid for uid in self._lanes if uid not in used]
            lanes = [self._lanes.pop(uid) for uid in idle]
        for lane in lanes:
            _close_lane(lane)


def _notify(sessions: Iterable[Session]) -> None:
    for session in sessions:
        session.notify()


def _close_lane(lane: LaneWriter) -> None:
    """Seal a lane; sealing is repeated by the next reader, so a failure only delays it."""
    try:
        lane.close()
    except IsoglossError:
        _log.warning("a lane was not sealed; its rows are safe", exc_info=True)
