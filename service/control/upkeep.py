"""Care: work on what is stored that takes as long as reading or rewriting it.

It runs in threads of the process that owns the store, one at a time for each recording. A caller
follows it as a stream of steps, at least one a second; when the caller leaves, the work ends
between two steps and what was done stays.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from isogloss.errors import Conflict, InvalidInput, ServerUnavailable
from isogloss.service.control.garbage import remove_logs, remove_orphans
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.upkeep import CareProgress, Compression, Garbage, Quantisation
from isogloss.store import Compaction, Problem, Recording, Store, describe_lane

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Report = Callable[[str, int, int], None]
"""Takes what is at work, bytes done and bytes in all; raises when the work is to end."""

_BEAT_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(Generic[T_co]):
    """Where some work is."""

    progress: CareProgress
    """How far."""
    result: T_co | None = None
    """What it came to; in the last step only."""


class _Stopped(Exception):
    """Ends work whose caller left."""


class _Work(Generic[T_co]):
    """One piece of work in a thread of its own."""

    def __init__(self, work: Callable[[Report], T_co], on_end: Callable[[], None]) -> None:
        self._changed = threading.Condition()
        self._progress = CareProgress(step="", done=0, total=0)
        self._stop: Exception | None = None
        self._result: tuple[T_co] | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(
            target=self._run, args=(work, on_end), name="isogloss-care", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the work is over."""
        return self._ended

    def _run(self, work: Callable[[Report], T_co], on_end: Callable[[], None]) -> None:
        try:
            self._result = (work(self._report),)
        except BaseException as error:  # raised again in the caller's thread, whatever it is
            self._error = error
        on_end()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _report(self, step: str, done: int, total: int) -> None:
        if self._stop is not None:
            raise self._stop
        self._progress = CareProgress(step=step, done=done, total=total)

    def steps(self) -> Iterator[Step[T_co]]:
        """Yield where the work is until it is done; leaving asks it to end."""
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended, _BEAT_S)
                    ended = self._ended
                if not ended:
                    yield Step(progress=self._progress)
                    continue
                if self._error is not None:
                    raise self._error
                if self._result is not None:
                    yield Step(progress=self._progress, result=self._result[0])
                return
        finally:
            self.stop(_Stopped())

    def stop(self, reason: Exception) -> None:
        """Ask the work to end between two steps."""
        self._stop = self._stop or reason

    def join(self) -> None:
        """Wait until the work ended."""
        self._thread.join()


class Care:
    """Long work on the recordings of one store. Thread-safe; in the store's owner process."""

    def __init__(self, store: Store, ingest: Ingest, jobs: Jobs) -> None:
        self._store = store
        self._ingest = ingest
        self._jobs = jobs
        self._lock = threading.Lock()
        self._busy: dict[str, str] = {}  # uid of a recording -> what is done to it
        self._works: list[_Work[object]] = []
        self._closed = False

    def close(self) -> None:
        """End what runs between two steps, and wait for that; nothing begins any more."""
        with self._lock:
            self._closed = True
            works = list(self._works)
        for work in works:
            work.stop(_closing())
        for work in works:
            work.join()

    @contextmanager
    def alone(self, recording: Recording, what: str) -> Generator[None]:
        """Hold a recording for work of one's own.

        Args:
            recording: which.
            what: is done to it, such as ``deleted``.

        Raises:
            Conflict: something else works on it.
        """
        claims = _claims(recording)
        self._claim(claims, what)
        try:
            yield
        finally:
            self._release(claims)

    def verify(self, recording: str) -> Iterator[Step[list[Problem]]]:
        """Check every stored byte of a recording."""
        found = self._store.recording(recording)
        return self._run(_claims(found), "verified", found.verify)

    def compact(self, recording: str, max_rows: int | None) -> Iterator[Step[Compaction]]:
        """Join the short sealed lanes of a recording.

        Raises:
            InvalidInput: ``max_rows`` is not positive.
        """
        found = self._store.recording(recording)

        def work(report: Report) -> Compaction:
            self._seal(found)
            return found.compact(max_rows=max_rows, on_progress=report)

        return self._run(_claims(found), "compacted", work)

    def compress(self, recording: str) -> Iterator[Step[Compression]]:
        """Compress the sealed lanes of a recording."""
        found = self._store.recording(recording)

        def work(report: Report) -> Compression:
            before = self._sealed_bytes(found)
            sites = found.compress(report)
            after = _stored_bytes(found)
            return Compression(sites=sites, bytes_before=before, bytes_after=after)

        return self._run(_claims(found), "compressed", work)

    def quantise(
        self, recording: str, sites: Sequence[str] | None, *, accept_loss: bool
    ) -> Iterator[Step[Quantisation]]:
        """Round the rows of sealed lanes to 8 bits a number.

        Raises:
            InvalidInput: the loss is not accepted.
            UnknownSite: no such site; the message lists the nearest names.
        """
        found = self._store.recording(recording)
        for site in sites or ():
            found.spec.site_index(site)  # refuses one that is not there
        if not accept_loss:
            raise InvalidInput(
                f"quantising recording {recording!r} rounds its rows to 8 bits a number, for good: "
                "pass accept_loss=True where that is meant; compress keeps every bit"
            )

        def work(report: Report) -> Quantisation:
            before = self._sealed_bytes(found)
            errors = found.quantise(sites, on_progress=report)
            after = _stored_bytes(found)
            return Quantisation(errors=errors, bytes_before=before, bytes_after=after)

        return self._run(_claims(found), "quantised", work)

    def collect_garbage(self, older_s: float) -> Iterator[Step[Garbage]]:
        """Remove what nothing in the store names.

        Raises:
            InvalidInput: ``older_s`` is negative.
        """
        if not older_s >= 0:
            raise InvalidInput(f"older_s is {older_s:g}, wanted 0 or more seconds")

        def work(report: Report) -> Garbage:
            report("recordings", 0, 0)
            files = self._store.collect_garbage(older_s)
            report("artifacts", 0, 0)
            files += remove_orphans(self._store, self._jobs, older_s)
            report("logs", 0, 0)
            return Garbage(files=files, logs=remove_logs(self._store, self._jobs, older_s))

        claims = {"": "the store", **_claims(*self._store.recordings())}
        return self._run(claims, "swept", work)

    def _seal(self, recording: Recording) -> None:
        """Seal what no producer writes to; without locks also settle it into shards."""
        self._ingest.seal_idle_lanes()
        if self._store.fencing == "create":
            recording.derive()

    def _sealed_bytes(self, recording: Recording) -> int:
        """Seal what no producer writes to, and return the bytes of all lanes."""
        self._seal(recording)
        return _stored_bytes(recording)

    def _run(
        self, claims: Mapping[str, str], what: str, work: Callable[[Report], T]
    ) -> Iterator[Step[T]]:
        """Do work in a thread from the first step on, and yield where it is."""
        self._claim(claims, what)
        made = _Work(work, lambda: self._release(claims))
        with self._lock:
            self._works = [*(other for other in self._works if not other.ended), made]
        made.start()
        yield from made.steps()

    def _claim(self, claims: Mapping[str, str], what: str) -> None:
        with self._lock:
            if self._closed:
                raise _closing()
            for uid, name in claims.items():
                if uid in self._busy:
                    raise Conflict(
                        f"{name} is being {self._busy[uid]}: wait until that call ended, or end "
                        "it, then call again"
                    )
            self._busy.update(dict.fromkeys(claims, what))

    def _release(self, claims: Mapping[str, str]) -> None:
        with self._lock:
            for uid in claims:
                del self._busy[uid]


def _claims(*recordings: Recording) -> dict[str, str]:
    """Return what is claimed: uids, each with its name for messages."""
    return {found.uid: f"recording {found.id!r}" for found in recordings}


def _stored_bytes(recording: Recording) -> int:
    return sum(describe_lane(recording, state).stored_bytes for state in recording.lanes())


def _closing() -> ServerUnavailable:
    return ServerUnavailable("the store is being closed: call again once it is open")
