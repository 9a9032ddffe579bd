"""Ingest: takes the batches of all producers and commits them together, in one thread.

A producer's stream is a :class:`Session`. Batches come whole, or in parts that the session checks
and joins. Whole batches wait, within a bound on memory, for the writer thread, which gives
everything that waits for a recording to its lane in one group commit. A session says of two
sequence numbers how far it is: up to *received*, batches are held in memory and none is missing; up
to *durable*, they are on the disk.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from isogloss.errors import (
    Conflict,
    Fenced,
    InternalError,
    InvalidInput,
    IsoglossError,
    LaneEnded,
    ResourceExhausted,
    ServerUnavailable,
    StorageError,
    from_os_error,
)
from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.ingest.sessions import Session
from isogloss.service.wire.callers import place_of, who_makes_room
from isogloss.store import DirectLaneTicket, LaneWriter, Recording, RowBatch, Store

_log = logging.getLogger(__name__)

_PARTS_SHARE = 8
"""Of the memory for batches, one in so many bytes is for parts that found no room."""
_SMALLEST_PART = 64 << 10
"""Smaller parts would cost more than their bytes."""


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
        self._partial: dict[Session, int] = {}  # bytes of the batches that are half there, by age
        self._refused: set[Session] = set()  # wait for memory, and are told when some is free
        self._busy: str | None = None  # uid of the recording being committed
        self._deleting: set[str] = set()  # uids of recordings to which nothing is committed now
        self._closed = self._sealing = False
        self._was_refused, self._was_told = True, False  # a server may start on a full disk
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

    def is_well(self) -> bool:
        """Whether batches can be made durable.

        At first, and after a commit that the storage refused, the storage is tried at each call
        until it takes bytes. Blocks for as long as that takes. That it takes none, and that it
        does again, is logged once each.
        """
        if not self._was_refused:
            return True
        try:
            self._store.check_writable()
        except (IsoglossError, OSError) as error:
            if not self._was_told:
                _log.warning("nothing can be recorded: %s", error)
            self._was_told = True
            return False
        if self._was_told:
            _log.warning("batches can be recorded again")
        self._was_refused = self._was_told = False
        return True

    def open(
        self, recording: str, producer: str, notify: Callable[[], None], client: str = ""
    ) -> Session:
        """Begin a producer's stream. If the producer has an open stream already, that one is ended.

        Where as many producers are connected as may be, another one is ended to make room: one of
        the client that has the most, where this client has less than its share (see
        :mod:`isogloss.service.wire.callers`); else one from its place that sent nothing for a
        while.

        Args:
            recording: id of the recording.
            producer: name of the stream of batches. A restart of its writer gives the same name.
            notify: called, from any thread, when there may be a new acknowledgement or free memory.
            client: from where it is connected; clients share the limit on producers.

        Returns:
            The session; it counts from the last batch of the producer that is on the disk.

        Raises:
            NotFound: there is no such recording.
            InvalidInput: the producer's name is empty or too long.
            Conflict: the producer is writing a direct lane, or the store is being closed.
            ResourceExhausted: too many producers are connected.
            ServerUnavailable: the recording is being deleted.
        """
        if not producer or len(producer) > 256:
            raise InvalidInput(
                f"producer name has {len(producer)} characters, wanted 1 to 256, such as 'rank-0'"
            )
        found = self._store.recording(recording)
        key = (found.uid, producer)
        with self._changed:
            self._check_open()
            self._check_stays(found)
            found.claim([producer])
            older = self._sessions.pop(key, None)
            if older is not None:
                self._fence(older)
            elif len(self._sessions) >= self.limits.sessions:
                self._make_room(client)
            # What earlier sessions left may still be committed, and the answer must count it.
            self._changed.wait_for(
                lambda: (
                    self._busy != found.uid
                    and not any(
                        (w.session.recording.uid, w.session.producer) == key for w in self._waiting
                    )
                )
            )
            if found.has_lent(producer):  # the open lane does not know where the producer is now
                self._end_lane(found.uid)
            lane = self._lanes.get(found.uid)
            live = 0 if lane is None else lane.cursors.get(producer, 0)
            durable = max(found.cursor(producer), live)
            session = Session(self, found, producer, durable, notify, client)
            session.rows = 0 if lane is None else lane.rows
            self._sessions[key] = session
            return session

    def _make_room(self, client: str) -> None:
        """End one session for a new one of a client, or refuse the new one."""
        sessions = list(self._sessions.values())
        loser = who_makes_room((s.client for s in sessions), client, self.limits.sessions)
        own = [s for s in sessions if place_of(s.client) == place_of(client)]
        if loser is not None:
            doomed = [s for s in sessions if s.client == loser]
        else:
            since_s = time.monotonic() - self.limits.idle_session_s
            doomed = [s for s in own if s.is_settled and s.active_s <= since_s]
        if not doomed:
            raise ResourceExhausted(
                f"{len(sessions)} producers are connected, {len(own)} of them from "
                f"{place_of(client) or 'here'}, and none has been idle for "
                f"{self.limits.idle_session_s:g} s: close some, or send through fewer"
            )
        ended = min(doomed, key=lambda session: session.active_s)
        del self._sessions[ended.recording.uid, ended.producer]
        ended.error = ended.error or ServerUnavailable(
            f"producer {ended.producer!r} made room for another one, as {self.limits.sessions} are "
            "connected: connect again to go on"
        )
        ended.notify()

    def offer_direct_lane(self, recording: str, producers: Sequence[str]) -> DirectLaneTicket:
        """Let a process on the same storage write these producers' batches past this one.

        The producers' sessions end. Batches that were received and are not durable are dropped:
        the producers send them again to their direct lane.

        Args:
            recording: id of the recording.
            producers: names of the streams that will write the lane.

        Returns:
            What the other process needs to make the lane.

        Raises:
            NotFound: no such recording.
            Conflict: a producer is writing a direct lane.
            ServerUnavailable: the recording is being deleted.
        """
        found = self._store.recording(recording)
        with self._changed:
            self._check_open()
            self._check_stays(found)
            found.claim(producers)
            while True:
                for producer in producers:
                    older = self._sessions.pop((found.uid, producer), None)
                    if older is not None:
                        self._fence(older)
                self._drop_producers(found.uid, frozenset(producers))
                if self._busy != found.uid:
                    return found.offer_direct_lane(producers)
                self._changed.wait_for(lambda: self._busy != found.uid)

    @property
    def part_bytes(self) -> int:
        """Payload of a part that clients are asked to send now: smaller where many are connected.

        Each may have one part here that found no room. While half of the memory is free parts may
        be twice as large: a message costs about as much as 128 KiB in it.
        """
        free = max(0, self.limits.waiting_bytes // 2 - self._held)
        share = self.limits.waiting_bytes // _PARTS_SHARE
        return self._fair_part(share + min(share, free // 2))

    def _fair_part(self, total: int) -> int:
        """Return how large a part is where all producers' parts together are of so many bytes."""
        fair = total // max(1, len(self._sessions))
        return min(self.limits.part_bytes, max(_SMALLEST_PART, fair))

    @property
    def _room(self) -> int:
        """Bytes of batches that may be held beside the parts that found no room, one a session."""
        all_bytes = self.limits.waiting_bytes
        apart = len(self._sessions) * self._fair_part(all_bytes // _PARTS_SHARE)
        most = min(all_bytes // _PARTS_SHARE, (all_bytes - self.limits.batch_bytes) // 2)
        return all_bytes - min(apart, most)

    def reserve(self, session: Session, size: int) -> bool:
        """Reserve memory for a whole batch of a session.

        Args:
            session: told by its ``notify`` when there may be room, where there is none now.
            size: how many bytes.

        Returns:
            False where there is not enough now.
        """
        with self._changed:
            if self._held and self._held + size > self._room:
                self._refused.add(session)
                return False
            self._held += size
            return True

    def reserve_part(self, session: Session, size: int) -> bool:
        """Reserve memory for a part of a batch; arguments and answer as for :meth:`reserve`.

        Batches that have begun to come may hold all but what the largest one needs. Beyond that
        only the one that began first goes on, which then finds room: so they cannot, each half
        there, keep one another from ending.
        """
        with self._changed:
            others = sum(self._partial.values()) - self._partial.get(session, 0)
            mine = self._partial.get(session, 0) + size
            is_first = next(iter(self._partial), session) is session
            room = self.limits.waiting_bytes if is_first else self._room
            is_crowded = others + mine > room - self.limits.batch_bytes and not is_first
            if is_crowded or (self._held and self._held + size > room):
                self._refused.add(session)
                return False
            self._held += size
            self._partial[session] = mine
            return True

    def end_batch(self, session: Session) -> None:
        """Say that no more parts of a session's batch come; what was reserved stays so."""
        with self._changed:
            if self._partial.pop(session, None) is None:
                return
            refused = self._take_refused()
        _notify(refused)  # another one is first now

    def release(self, size: int) -> None:
        """Give memory back and tell those who wait for it."""
        with self._changed:
            self._held -= size
            refused = self._take_refused()
        _notify(refused)

    def _take_refused(self) -> set[Session]:
        """Return those who wait for memory: they try again, and wait again where it is too little.

        Only they, and not all sessions, are told: at 512 streams that alone had taken a quarter of
        the writer's time.
        """
        refused, self._refused = self._refused, set()
        return refused

    def enqueue(self, session: Session, batch: RowBatch, size: int) -> None:
        """Hand a whole batch to the writer thread."""
        with self._changed:
            self._waiting.append(_Waiting(session, batch, size))
            self._changed.notify_all()

    def leave(self, session: Session) -> None:
        """Forget a session; its waiting batches are still committed."""
        key = (session.recording.uid, session.producer)
        with self._changed:
            self._refused.discard(session)
            if self._sessions.get(key) is session:
                del self._sessions[key]

    @contextmanager
    def deleting(self, uid: str) -> Generator[None]:
        """Return a context manager within which a recording is deleted.

        Meanwhile its lane is closed, nothing is committed to it, and no stream into it begins. If
        the block raises, the streams go on as if nothing had been; else they end.

        Args:
            uid: uid of the recording.

        Yields:
            Nothing.
        """
        with self._changed:
            self._deleting.add(uid)
            self._changed.wait_for(lambda: self._busy != uid)
            lane = self._lanes.pop(uid, None)
        doomed: list[Session] = []
        try:
            if lane is not None:
                _close_lane(lane)
            yield
            with self._changed:
                doomed = [s for s in self._all_sessions() if s.recording.uid == uid]
                self._drop_waiting(doomed, Conflict("the recording was deleted"))
        finally:
            with self._changed:
                self._deleting.discard(uid)
                self._changed.notify_all()
        _notify(doomed)

    def _all_sessions(self) -> list[Session]:
        """Return the sessions that are open, and those that left batches behind."""
        return list({*self._sessions.values(), *(w.session for w in self._waiting)})

    def _check_stays(self, recording: Recording) -> None:
        if recording.uid in self._deleting:
            raise ServerUnavailable(
                f"recording {recording.id!r} is being deleted: connect again, which then says "
                "whether it is gone"
            )

    def seal_idle_lanes(self) -> None:
        """Close the lanes that no producer uses now; returns once they are closed.

        Without this call they close ``idle_lane_s`` after their last producer left.
        """
        with self._changed:
            self._sealing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._sealing or self._closed)

    def close(self, within_s: float | None = None) -> None:
        """Commit what waits, close the lanes and end the writer thread.

        Args:
            within_s: for how many seconds to commit; the group that is being committed then is
                finished, and the batches behind it are dropped. Nobody was told that they are
                durable, so their producers send them again. None: until all are committed.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._writer.join(within_s)
        if self._writer.is_alive():
            with self._changed:
                left, doomed = len(self._waiting), self._all_sessions()
                self._drop_waiting(
                    doomed,
                    ServerUnavailable("the server ended before this was on its disk: send again"),
                )
            _notify(doomed)
            if left:
                _log.warning("the disk is slow: dropped %d batches, which producers keep", left)
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
        freed = sum(w.size for w in self._waiting) - sum(w.size for w in kept)
        self._held -= freed
        self._waiting = deque(kept)
        self._changed.notify_all()
        if freed:  # there is room now, and perhaps no commit that would tell of it
            _notify(self._take_refused())

    def _drop_producers(self, uid: str, producers: frozenset[str]) -> None:
        """Forget the batches that sessions left behind which are closed already."""
        left = [
            w.session
            for w in self._waiting
            if w.session.recording.uid == uid and w.session.producer in producers
        ]
        self._drop_waiting(left, Fenced("the producer went to a direct lane: send again there"))

    def _end_lane(self, uid: str) -> None:
        """Seal the open lane of a recording that is not being committed to."""
        lane = self._lanes.pop(uid, None)
        if lane is not None:
            _close_lane(lane)

    # The writer thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                idle = self.limits.idle_lane_s if self._lanes else None
                woken = self._changed.wait_for(
                    lambda: self._has_work() or self._closed or self._sealing, idle
                )
                group = self._take_group()
                done = self._closed and not group
            if done:
                return
            is_commit = bool(group)
            if is_commit:
                self._commit(group)
            if self._sealing or not (woken or is_commit):
                self._close_idle_lanes()

    def _has_work(self) -> bool:
        """Whether a batch waits that can be committed now."""
        return any(w.session.recording.uid not in self._deleting for w in self._waiting)

    def _take_group(self) -> list[_Waiting]:
        """Take what waits for one recording, in order, up to the size of a group."""
        uids = (w.session.recording.uid for w in self._waiting)
        uid = next((uid for uid in uids if uid not in self._deleting), None)
        if uid is None:
            return []
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
        except OSError as error:
            _log.exception("group commit failed")
            self._fail(group, from_os_error(error))
        except Exception as error:  # the writer thread must outlive a defect in a lower room
            _log.exception("group commit failed")
            self._fail(group, InternalError(f"{type(error).__name__} while committing: {error}"))
        concerned = {waiting.session for waiting in group}
        size = sum(waiting.size for waiting in group)
        group.clear()  # first: else the batches live until the next group, beside what is let in
        with self._changed:
            self._held -= size
            self._busy = None
            concerned |= self._take_refused()
            self._changed.notify_all()
        _notify(concerned)

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
            except OSError as error:
                _log.exception("a commit failed")
                self._fail(batches, from_os_error(error))
            except Exception as error:  # as in _commit
                _log.exception("a commit failed")
                found = f"{type(error).__name__} while committing: {error}"
                self._fail(batches, InternalError(found))

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
        self._was_refused = self._was_refused or isinstance(error, StorageError)
        if isinstance(error, LaneEnded):
            lane = self._lanes.pop(group[0].session.recording.uid, None)
            if lane is not None:
                _close_lane(lane)
        with self._changed:
            self._drop_waiting(list(doomed.values()), error)

    def _close_idle_lanes(self) -> None:
        with self._changed:
            used = {uid for uid, _ in self._sessions}
            lanes = [self._lanes.pop(uid) for uid in list(self._lanes) if uid not in used]
        for lane in lanes:
            _close_lane(lane)
        with self._changed:
            self._sealing = False
            self._changed.notify_all()


def _notify(sessions: Iterable[Session]) -> None:
    for session in sessions:
        session.notify()


def _close_lane(lane: LaneWriter) -> None:
    """Seal a lane; sealing is repeated by the next reader, so a failure only delays it."""
    try:
        lane.close()
    except IsoglossError as error:
        _log.warning("%s", error)
