"""The worker: one process that runs one attempt of one job.

Started by the supervisor of :mod:`isogloss.service.jobs` as
``python -m isogloss.service.worker STORE JOB ATTEMPT``.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType

from isogloss.errors import Fenced, InternalError, IsoglossError, JobCancelled
from isogloss.service.jobs_process import (
    EXIT_FENCED,
    EXIT_RELEASED,
    LEASE_S,
    end_with_supervisor,
)
from isogloss.service.jobs_table import JobRecord, JobState, JobTable
from isogloss.service.places import make_state_directory
from isogloss.store import Store

_PEEK_S = 0.2
"""How soon a cancel is seen."""
_REPORT_S = 0.5
"""Shortest time between two written reports: each costs an fsync."""
_RENEW_S = LEASE_S / 5

_log = logging.getLogger(__name__)


class Heart:
    """Keeps an attempt's lease, carries its progress out and a cancel in.

    A thread of its own does this, so a long computation does not lose the lease. When the attempt
    is fenced, the process ends at once: whatever it might still write would be in the way.
    """

    def __init__(
        self, table: JobTable, record: JobRecord, *, on_fenced: Callable[[], None]
    ) -> None:
        self._table = table
        self._job, self._attempt = record.id, record.attempt
        self._on_fenced = on_fenced
        self._report = (0, 0, dict[str, float]())
        self._written: tuple[int, int, dict[str, float]] | None = None
        self._memo = table.memo(record.id)
        self._stop = threading.Event()
        self._cancelled = False
        self._ended = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self._thread.start()

    def progress(self, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        """Say how far the task is; cheap enough for every step."""
        self._report = (step, total_steps, dict(metrics))

    def should_stop(self) -> bool:
        """Whether the job was cancelled or the supervisor is closing."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise ``JobCancelled`` when the task should stop."""
        if self._stop.is_set():
            raise JobCancelled(f"job {self._job!r} was asked to stop; submit it again to go on")

    def request_stop(self) -> None:
        """Ask the task to stop without cancelling the job: it goes on in a later attempt."""
        self._stop.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether a stop was asked for because of a cancel."""
        return self._cancelled

    def pin(self, key: str, make: Callable[[], object]) -> object:
        """Return what the job's first attempt decided under ``key``; decide it if this is it.

        The value is plain JSON and durable before it is used, so that all attempts do the same.
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
            since = time.monotonic() - renewed
            try:
                if since > _RENEW_S or (since > _REPORT_S and self._written != self._report):
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
        )
        self._written = report
        self._note(state)

    def _note(self, state: JobState) -> None:
        if state is JobState.CANCELLING:
            self._cancelled = True
            self._stop.set()


Task = Callable[[Store, JobRecord, Heart], dict[str, object]]
"""Runs a job: idempotent, resumable, and whole or absent in what it writes."""


def run(location: str, job: str, attempt: int, task_of: Callable[[str], Task]) -> int:
    """Run one attempt and write down how it ended. Returns the exit code.

    Args:
        location: of the store, see :func:`isogloss.service.places.location`.
        job: id of the job.
        attempt: which attempt this process is; another one fences it.
        task_of: finds the task of a kind (it may import what is heavy: the heart beats already).
    """
    with Store.attach(location) as store:
        table = JobTable.of(store)
        record = table.get(job)
        if record.attempt != attempt:
            return EXIT_FENCED
        try:
            heart = Heart(table, record, on_fenced=_end_now)
        except Fenced:
            return EXIT_FENCED
        signal.signal(signal.SIGTERM, _stopper(heart))
        try:
            state, result, error = _attempt(store, record, heart, task_of)
            heart.close()
            if state is None:
                return EXIT_RELEASED
            table.finish(job, attempt, state, result=result, error=error)
        except Fenced:
            return EXIT_FENCED
        return 0


def _attempt(
    store: Store, record: JobRecord, heart: Heart, task_of: Callable[[str], Task]
) -> tuple[JobState | None, dict[str, object] | None, tuple[str, str] | None]:
    try:
        heart.check()
        result = task_of(record.kind)(store, record, heart)
    except JobCancelled:
        return (JobState.CANCELLED if heart.is_cancelled else None), None, None
    except Fenced:
        raise
    except IsoglossError as error:
        _log.exception("job %s failed", record.id)
        return JobState.FAILED, None, (error.reason, str(error))
    except Exception as error:
        _log.exception("job %s failed", record.id)
        message = (
            f"{type(error).__name__}: {error} (a defect in isogloss; the trace is in "
            f"{make_state_directory(store)}/jobs/{record.id}.log)"
        )
        return JobState.FAILED, None, (InternalError.reason, message)
    return JobState.SUCCEEDED, result, None


def _stopper(heart: Heart) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        heart.request_stop()

    return stop


def _end_now() -> None:
    os._exit(EXIT_FENCED)


def _task_of(kind: str) -> Task:
    from isogloss.service.tasks import TASKS

    return TASKS[kind]


def main() -> int:
    """Entry point of the worker process."""
    end_with_supervisor()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    location, job, attempt = sys.argv[1:]
    return run(location, job, int(attempt), _task_of)


if __name__ == "__main__":
    sys.exit(main())
