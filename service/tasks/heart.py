"""A worker's side of its job: renews the lease, reports progress, and notices a cancel."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from isogloss.errors import Fenced, IsoglossError, JobCancelled
from isogloss.service.jobs.processes import LEASE_S
from isogloss.service.jobs.queue import JobTable
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.store import Store

_PEEK_S = 0.2
"""How soon a cancel is seen."""
_REPORT_S = 0.5
"""Shortest time between two written reports: each costs an fsync."""
_RENEW_S = LEASE_S / 5
_LOADING_S = 300.0
"""For how long a worker may load without that counting as time of its job: torch alone takes one to
ten seconds, and far longer from a slow file system."""

_log = logging.getLogger(__name__)


class Heart:
    """Renews the lease of one attempt of a job, reports its progress, and notices a cancel.

    A thread does all this, so that the lease is kept during a long computation. When another
    attempt took the job over, the thread calls ``on_fenced``, which ends the process: it must not
    write beside its successor.
    """

    def __init__(
        self, table: JobTable, record: JobRecord, *, on_fenced: Callable[[], None]
    ) -> None:
        """Renew the lease once and start the thread.

        Args:
            table: the queue.
            record: the job as this worker was given it.
            on_fenced: called in the thread when another attempt took the job over, or it ended.
        """
        self._table = table
        self._job, self._attempt = record.id, record.attempt
        self._on_fenced = on_fenced
        self._report = (0, 0, dict[str, float]())
        self._written: tuple[int, int, dict[str, float]] | None = None
        self._memo = table.memo(record.id)
        self._stop = threading.Event()
        self._cancelled = False
        self._ended = threading.Event()
        self._made_s = time.monotonic()
        self._is_loaded = self._counts = False
        self._beat()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Say that the task is loaded: from the next heartbeat on, which is soon, time counts."""
        self._is_loaded = True

    def progress(self, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        """Say how far the task is; written down at most twice a second.

        Args:
            step: steps done, in the task's own unit.
            total_steps: steps in all; 0 while unknown.
            metrics: the newest figures by name.
        """
        self._report = (step, total_steps, dict(metrics))

    def should_stop(self) -> bool:
        """Whether the job was cancelled or the supervisor is closing."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise ``JobCancelled`` when the task should stop."""
        if self._stop.is_set():
            raise JobCancelled(f"job {self._job!r} was asked to stop; submit it again to go on")

    def request_stop(self) -> None:
        """Make :meth:`check` raise, without cancelling the job: a later attempt goes on with it."""
        self._stop.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether a stop was asked for because of a cancel."""
        return self._cancelled

    def pin(self, key: str, make: Callable[[], object]) -> object:
        """Return a value that is the same in all attempts of the job.

        The first attempt makes the value and writes it down before it uses it.

        Args:
            key: names the value.
            make: makes it, called at most once in the life of a job; plain JSON.

        Returns:
            What the first attempt made.
        """
        if key not in self._memo:
            self._memo[key] = make()
            self._table.remember(self._job, self._attempt, self._memo)
        return self._memo[key]

    def close(self) -> None:
        """Write the last report and end the thread."""
        self._ended.set()
        self._thread.join()
        if self._written != self._report:
            self._beat()

    def _run(self) -> None:
        renewed = time.monotonic()
        while not self._ended.wait(_PEEK_S):
            try:
                if self._is_due(time.monotonic() - renewed):
                    self._beat()
                    renewed = time.monotonic()
                else:
                    self._note(self._table.peek(self._job, self._attempt))
            except Fenced:
                self._on_fenced()
                return
            except IsoglossError:
                # The disk may be full for a moment; the lease says how long that may last.
                _log.exception("a heartbeat of job %s failed", self._job)

    def _is_due(self, since_s: float) -> bool:
        """Whether there is something to write, so many seconds after the last heartbeat."""
        if since_s > _RENEW_S or (self._has_begun() and not self._counts):
            return True
        return since_s > _REPORT_S and self._written != self._report

    def _has_begun(self) -> bool:
        """Whether time counts from the next heartbeat on."""
        return self._is_loaded or time.monotonic() - self._made_s > _LOADING_S

    def _beat(self) -> None:
        report = self._report
        step, total_steps, metrics = report
        state = self._table.beat(
            self._job,
            self._attempt,
            lease_s=LEASE_S,
            step=step,
            total_steps=total_steps,
            metrics=metrics,
            counts=self._counts,
        )
        self._counts = self._has_begun()
        self._written = report
        self._note(state)

    def _note(self, state: JobState) -> None:
        if state is JobState.CANCELLING:
            self._cancelled = True
            self._stop.set()


Task = Callable[[Store, JobRecord, Heart], dict[str, object]]
"""Runs a job and returns its result. It may be killed at any point and run again: it then goes on,
and what it makes is in the catalog whole or not at all."""
