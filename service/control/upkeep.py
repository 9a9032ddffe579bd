"""Upkeep: verifying, compacting, compressing and quantising recordings, and removing garbage.

One work at a time is done on each recording, in a thread of the process that owns the store. The
caller follows it as a stream of steps. When the caller leaves, the work ends before its next step;
what was done by then stays done.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from isogloss.errors import Conflict, InvalidInput, ServerUnavailable
from isogloss.service.control.garbage import remove_logs, remove_orphans
from isogloss.service.control.uploads import remove_uploads
from isogloss.service.control.work import ReportProgress, Work, WorkStep
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.upkeep import Compression, Garbage, Quantisation
from isogloss.store import Compaction, MissingLane, Problem, Recording, Store, describe_lane

T = TypeVar("T")


class Upkeep:
    """Long work on the recordings of one store. Thread-safe; in the store's owner process."""

    def __init__(self, store: Store, ingest: Ingest, jobs: Jobs) -> None:
        self._store = store
        self._ingest = ingest
        self._jobs = jobs
        self._lock = threading.Lock()
        self._busy: dict[str, str] = {}  # uid of a recording -> what is done to it
        self._works: list[Work[object]] = []
        self._closed = False

    def close(self) -> None:
        """End the work that runs, before its next step, and wait for that.

        Calls made later raise ``ServerUnavailable``.
        """
        with self._lock:
            self._closed = True
            works = list(self._works)
        for work in works:
            work.stop(_closing())
        for work in works:
            work.join()

    @contextmanager
    def alone(self, recording: Recording, what: str) -> Generator[None]:
        """Return a context manager that keeps all other upkeep off a recording.

        Args:
            recording: the recording.
            what: participle for the work, such as ``deleted``; errors show it to others.

        Yields:
            Nothing.

        Raises:
            Conflict: other upkeep works on the recording already.
        """
        claims = _claims(recording)
        self._claim(claims, what)
        try:
            yield
        finally:
            self._release(claims)

    def verify(self, recording: str) -> Iterator[WorkStep[list[Problem]]]:
        """Check every stored byte of a recording."""
        found = self._store.recording(recording)
        return self._run(_claims(found), "verified", found.verify)

    def compact(self, recording: str, max_rows: int | None) -> Iterator[WorkStep[Compaction]]:
        """Join the short sealed lanes of a recording.

        Args:
            recording: its id.
            max_rows: longest lane that is made; None: the store's default.

        Returns:
            The work as steps; it begins when the first is asked for.

        Raises:
            InvalidInput: ``max_rows`` is not positive.
        """
        found = self._store.recording(recording)

        def work(report: ReportProgress) -> Compaction:
            self._seal(found)
            return found.compact(max_rows=max_rows, on_progress=report)

        return self._run(_claims(found), "compacted", work)

    def compress(self, recording: str) -> Iterator[WorkStep[Compression]]:
        """Compress the sealed lanes of a recording."""
        found = self._store.recording(recording)

        def work(report: ReportProgress) -> Compression:
            before = self._sealed_bytes(found)
            sites = found.compress(report)
            after = _stored_bytes(found)
            return Compression(sites=sites, bytes_before=before, bytes_after=after)

        return self._run(_claims(found), "compressed", work)

    def quantise(
        self, recording: str, sites: Sequence[str] | None, *, accept_loss: bool
    ) -> Iterator[WorkStep[Quantisation]]:
        """Round the rows of sealed lanes to 8 bits a number.

        Args:
            recording: its id.
            sites: names of the sites to round; None: all.
            accept_loss: that the caller knows that rows change for good; must be True.

        Returns:
            The work as steps; it begins when the first is asked for.

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

        def work(report: ReportProgress) -> Quantisation:
            before = self._sealed_bytes(found)
            errors = found.quantise(sites, on_progress=report)
            after = _stored_bytes(found)
            return Quantisation(errors=errors, bytes_before=before, bytes_after=after)

        return self._run(_claims(found), "quantised", work)

    def give_up(self, recording: str, *, accept_loss: bool) -> list[MissingLane]:
        """Go on without the lanes that are missing from a recording.

        Args:
            recording: its id.
            accept_loss: that the caller knows that the rows are lost for good; must be True.

        Returns:
            The lanes that were given up.

        Raises:
            InvalidInput: the loss is not accepted.
        """
        found = self._store.recording(recording)
        if not accept_loss:
            raise InvalidInput(
                f"giving up what recording {recording!r} lacks loses its rows, for good: restore "
                "the lanes from a copy, or pass accept_loss=True"
            )
        with self.alone(found, "given up"):
            return found.give_up()

    def collect_garbage(self, older_s: float) -> Iterator[WorkStep[Garbage]]:
        """Remove files that nothing in the store refers to.

        Args:
            older_s: files changed less than so many seconds ago stay.

        Returns:
            An iterator over the steps of the work, which begins when the first is asked for.

        Raises:
            InvalidInput: ``older_s`` is negative.
        """
        if not older_s >= 0:
            raise InvalidInput(f"older_s is {older_s:g}, wanted 0 or more seconds")

        def work(report: ReportProgress) -> Garbage:
            report("recordings", 0, 0)
            files = self._store.collect_garbage(older_s)
            report("artifacts", 0, 0)
            files += remove_orphans(self._store, self._jobs, older_s)
            files += remove_uploads(self._store, self._jobs, older_s)
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
        self, claims: Mapping[str, str], what: str, work: Callable[[ReportProgress], T]
    ) -> Iterator[WorkStep[T]]:
        """Do work in a thread from the first step on, and yield where it is."""
        self._claim(claims, what)
        made = Work(work, lambda: self._release(claims))
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
    return sum(describe_lane(recording, state).stored_bytes for state in recording.present_lanes())


def _closing() -> ServerUnavailable:
    return ServerUnavailable("the store is being closed: call again once it is open")
