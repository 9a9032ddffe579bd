"""Jobs: a durable queue, and the worker processes that run what is in it.

This module imports neither torch nor faiss.
"""

import logging
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from types import TracebackType

from isogloss.errors import Conflict, DeadlineExceeded
from isogloss.service.jobs.left_jobs import as_seen
from isogloss.service.jobs.limits import JobLimits, JobNeeds, too_large
from isogloss.service.jobs.queue import JobTable
from isogloss.service.jobs.workers import Workers
from isogloss.service.values.job_specs import JobSpec
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.state_directory import make_state_directory
from isogloss.store import Store

WORKER_COMMAND = (sys.executable, "-m", "isogloss.service.processes.worker")

_POLL_S = 0.1
_NAMED = 5
"""Jobs that are named; of further ones the number is told."""
_log = logging.getLogger(__name__)


class Jobs:
    """The jobs of one store. Thread-safe; one instance per store, in its owner process."""

    def __init__(
        self,
        store: Store,
        *,
        run_workers: bool = True,
        worker_command: Sequence[str] = WORKER_COMMAND,
        max_stalls: int = 5,
        limits: JobLimits | None = None,
    ) -> None:
        """Open the queue and start what runs its jobs.

        Args:
            store: the store whose jobs these are; this process must own it.
            run_workers: whether workers are started here. With False jobs are only queued; nothing
                runs until another process supervises. On an object store nothing is queued, and so
                nothing runs.
            worker_command: the command that starts a worker, to which ``STORE JOB ATTEMPT`` is
                appended.
            max_stalls: a job fails after so many attempts in a row that ended without an answer and
                without progress.
            limits: of memory, time and places in the queue.
        """
        self.limits = limits or JobLimits()
        """Limits of memory, time and places in the queue."""
        self._store = store
        self._table = JobTable.of(store)
        self._changed = threading.Condition()
        self._closed = threading.Event()
        if run_workers and not store.is_remote:
            _tell_of(self._table.all())
        self._workers = (
            Workers(
                self._table,
                (store, make_state_directory(store) / "jobs"),
                worker_command,
                self.limits,
                max_stalls=max_stalls,
                on_change=self._notify,
            )
            if run_workers and not store.is_remote
            else None
        )

    @property
    def runs_workers(self) -> bool:
        """Whether queued jobs are run by worker processes of this process."""
        return self._workers is not None

    def submit(
        self, spec: JobSpec, *, request_id: str = "", needs: JobNeeds | None = None
    ) -> JobRecord:
        """Queue a job; durable when it returns.

        Args:
            spec: the work to do; its class says the kind of job, see
                :mod:`isogloss.service.values.job_kinds`.
            request_id: any text; a second call with the same one returns the first call's job.
            needs: what the job needs, and for whom it is; None: nothing is known.

        Returns:
            The new job, or an earlier one with the same request id, or an unfinished equal one.

        Raises:
            InvalidInput: the spec cannot be queued; or the store is on an object store, which
                cannot hold the results of jobs.
            AlreadyExists: the request id, or the name of the thing to make, is used by a different
                job.
            ResourceExhausted: the job needs more memory than all jobs together may have, or as many
                jobs of its client wait as may.
        """
        self._check_open()
        self._store.check_artifacts()
        if needs is not None and needs.memory_bytes > self.limits.budget_bytes:
            raise too_large(needs.memory_bytes, self.limits.budget_bytes)
        record = self._table.submit(spec, request_id, needs, waiting=self.limits.waiting)
        self._wake()
        return record

    def get(self, job: str) -> JobRecord:
        """Return a job as it is now, or raise ``NotFound``.

        One whose worker ended with the process that ran it is told as queued.
        """
        return self.read(job)[0]

    def list(self) -> list[JobRecord]:
        """Return all jobs of the store, oldest first."""
        self._check_open()
        return [*self._seen(self._table.all())]

    def pinned(self, job: str) -> dict[str, object]:
        """Return what the attempts of a job agreed on, such as the uid of what it makes."""
        self._check_open()
        return self._table.memo(job)

    def cancel(self, job: str) -> JobRecord:
        """Ask a job to end; its worker stops within two seconds.

        A waiting job is cancelled at once and a final one stays as it is. Raises ``NotFound``.
        """
        self._check_open()
        record = self._table.cancel(job)
        self._wake()
        return record

    def wait(self, job: str, timeout_s: float | None = None) -> JobRecord:
        """Wait until a job has ended, and return it.

        Args:
            job: id of the job.
            timeout_s: how many seconds to wait; None: without limit.

        Returns:
            The job at its end.

        Raises:
            DeadlineExceeded: the job had not ended after ``timeout_s``; it goes on.
            Conflict: the queue was closed meanwhile.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            record = self.get(job)
            if record.state.is_final:
                return record
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise DeadlineExceeded(
                    f"job {job!r} was {record.state} at step {record.step} of "
                    f"{record.total_steps} after {timeout_s:g} s; it goes on: wait again, or "
                    "cancel it"
                )
            self._pause(_POLL_S if left is None else min(_POLL_S, left))

    def read(self, job: str) -> tuple[JobRecord, int]:
        """Return a job and its version, which every change of it raises.

        Raises:
            NotFound: there is no such job.
            Conflict: the queue was closed.
        """
        self._check_open()
        record, version = self._table.read(job)
        return self._seen([record])[0], version

    def _seen(self, records: Sequence[JobRecord]) -> Sequence[JobRecord]:
        """Return jobs as they are, those whose worker is gone as queued."""
        if self.runs_workers or all(record.state.is_final for record in records):
            return records  # whoever runs workers has put back by now what others left
        held = {one.record.id: one for one in self._table.held()}
        return [as_seen(record, held.get(record.id)) for record in records]

    def versions(self, jobs: Collection[str]) -> dict[str, int]:
        """Return the version of each of the given jobs that there is; Conflict if closed."""
        self._check_open()
        return self._table.versions(jobs)

    def watch(self, job: str) -> Iterator[JobRecord]:
        """Yield the job now and at each change of state or progress, up to its end.

        Ends early when the queue is closed. Raises ``NotFound``.
        """
        self._check_open()
        seen = -1
        while not self._closed.is_set():
            record, version = self.read(job)
            if version != seen:
                seen = version
                yield record
            if record.state.is_final:
                return
            self._pause(_POLL_S)

    def close(self) -> None:
        """End the worker, if one runs, and the supervisor. Unfinished jobs stay in the queue."""
        if self._closed.is_set():
            return
        if self._workers is not None:
            self._workers.close()
        self._closed.set()
        self._notify()
        self._table.close()

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise Conflict("these jobs are closed: open the store again")

    def _wake(self) -> None:
        if self._workers is not None:
            self._workers.wake()
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait(seconds)


def _tell_of(jobs: Sequence[JobRecord]) -> None:
    """Log the jobs of an earlier owner that had not ended, since they are run from now on."""
    left = [
        f"{job.id} ({job.kind}, {str(job.state).lower()})" for job in jobs if not job.state.is_final
    ]
    if left:
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        _log.warning(
            "jobs that had not ended go on now: %s%s; `isogloss jobs JOB --cancel` ends one, and "
            "connect(..., run_workers=False) leaves them in the queue",
            ", ".join(left[:_NAMED]),
            more,
        )
