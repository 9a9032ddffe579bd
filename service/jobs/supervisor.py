"""Jobs: a durable queue and the supervisor that runs one worker process at a time.

A worker is a fresh interpreter, ``python -m isogloss.service.processes.worker STORE JOB ATTEMPT``:
never a fork of this process and never a re-import of the caller's ``__main__``. It holds its job
by a lease that its heartbeat renews. When it dies, the supervisor starts the next attempt, which
resumes; when the supervisor dies, the worker dies with it, and the next supervisor on this store
resumes. This module imports neither torch nor faiss.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from isogloss.errors import Conflict, DeadlineExceeded, Fenced
from isogloss.service.jobs.processes import (
    LEASE_S,
    SUPERVISOR_VARIABLE,
    identity,
    is_alive,
    kill_group,
    pid_of,
)
from isogloss.service.jobs.queue import Held, JobTable
from isogloss.service.values.job_specs import JobSpec
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.service.values.state_directory import location, make_state_directory
from isogloss.store import FileSystem, Store, create_if_missing, make_directories

WORKER_COMMAND = (sys.executable, "-m", "isogloss.service.processes.worker")

_BACKOFF_S = 0.1
"""Pause before the attempt after the first stall; after n stalls it is ``2**n - 1`` times this."""
_CANCEL_GRACE_S = 1.5
"""How long a worker may take to end by itself after a cancel; files are whole or absent."""
_LATE_GRACE_S = LEASE_S / 3
"""How long a worker may be late before it is ended: longer than it pauses between heartbeats."""
_CLOSE_GRACE_S = 3.0
_POLL_S = 0.1
_IDLE_POLL_S = 1.0

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
    ) -> None:
        """Open the queue and start its supervisor.

        Args:
            store: the store whose jobs these are; this process must own it.
            run_workers: whether workers are started here. With False jobs are only queued; nothing
                runs until another process supervises. On an object store nothing is queued, and so
                nothing runs.
            worker_command: the command that starts a worker, to which ``STORE JOB ATTEMPT`` is
                appended.
            max_stalls: a job fails after so many attempts in a row that ended without an answer and
                without progress.
        """
        self._store = store
        self._table = JobTable.of(store)
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._supervisor = (
            _Supervisor(store, self._table, worker_command, max_stalls, self._notify)
            if run_workers and not store.is_remote
            else None
        )

    @property
    def runs_workers(self) -> bool:
        """Whether queued jobs are run by worker processes of this process."""
        return self._supervisor is not None

    def submit(self, spec: JobSpec, *, request_id: str = "") -> JobRecord:
        """Queue a job; durable when it returns.

        Args:
            spec: the work to do; its class says the kind of job, see
                :mod:`isogloss.service.values.job_kinds`.
            request_id: any text; a second call with the same one returns the first call's job.

        Returns:
            The new job, or an earlier one with the same request id, or an unfinished equal one.

        Raises:
            InvalidInput: the spec cannot be queued; or the store is on an object store, which
                cannot hold the results of jobs.
            AlreadyExists: the request id, or the name of the thing to make, is used by a different
                job.
        """
        self._check_open()
        self._store.check_artifacts()
        record = self._table.submit(spec, request_id)
        self._wake()
        return record

    def get(self, job: str) -> JobRecord:
        """Return a job as it is now, or raise ``NotFound``."""
        self._check_open()
        return self._table.get(job)

    def list(self) -> list[JobRecord]:
        """Return all jobs of the store, oldest first."""
        self._check_open()
        return self._table.all()

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
            self._check_open()
            record = self._table.get(job)
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
        return self._table.read(job)

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
            record, version = self._table.read(job)
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
        if self._supervisor is not None:
            self._supervisor.close()
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
        if self._supervisor is not None:
            self._supervisor.wake()
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait(seconds)


class _Supervisor:
    """One thread that starts workers, notices when they end, and puts their jobs back.

    The same thread starts every worker and lives as long as they may: Linux sends a child its
    parent-death signal when the *thread* that started it ends.
    """

    def __init__(
        self,
        store: Store,
        table: JobTable,
        command: Sequence[str],
        max_stalls: int,
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._logs = make_state_directory(store) / "jobs"
        self._table = table
        self._command = tuple(command)
        self._max_stalls = max_stalls
        self._changed = changed
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._job: JobRecord | None = None
        self._cancel_seen: float | None = None
        self._late_seen: float | None = None
        self._thread = threading.Thread(target=self._run, name="isogloss-jobs", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                idle = self._turn()
            except Fenced as error:
                _log.error("the jobs of %s are run by its new owner: %s", self._store.root, error)
                break
            except Exception:
                # The disk may be full or busy: the queue is durable, so look again later.
                _log.exception("supervising the jobs of %s failed; trying again", self._store.root)
                idle = True
            self._wake.wait(_IDLE_POLL_S if idle else _POLL_S)
            self._wake.clear()
        self._end_child()

    def _turn(self) -> bool:
        """Look after the worker, or start one. Returns whether there is nothing to do.

        Raises:
            Fenced: another process owns the store by now, and runs its jobs.
        """
        if self._child is None:
            self._store.check_owner()
            self._take_over()
            self._start_next()
        else:
            self._look_after(self._child)
        return self._child is None

    # Jobs that earlier supervisors left behind.

    def _take_over(self) -> None:
        for held in self._table.held():
            if held.holder is not None and is_alive(held.holder):
                # An orphan that outlived its supervisor: it must not write beside its successor.
                kill_group(pid_of(held.holder))
            elif held.holder is None or pid_of(held.holder) is not None or held.is_late:
                # Its worker is gone from this machine, or its lease ran out on another one.
                self._put_back(held.record, "")

    def _start_next(self) -> None:
        job = self._table.claim(LEASE_S)
        if job is None:
            return
        make_directories(FileSystem(), self._logs)
        environment = {
            # Threads of torch and numba that wait for work spin by default: beside other load
            # that made a small training step 30 times slower (20 against 0.65 ms of CPU time).
            "OMP_WAIT_POLICY": "passive",
            **os.environ,
            SUPERVISOR_VARIABLE: str(os.getpid()),
            "PYTHONSAFEPATH": "1",
        }
        path = self._logs / f"{job.id}.log"
        create_if_missing(path)
        with path.open("ab") as log:
            self._child = subprocess.Popen(
                [*self._command, location(self._store), job.id, str(job.attempt)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._job, self._cancel_seen, self._late_seen = job, None, None
        self._table.hold(job.id, job.attempt, identity(self._child.pid))
        self._changed()

    # The worker that runs now.

    def _look_after(self, child: subprocess.Popen[bytes]) -> None:
        job = self._job
        if job is None:
            return
        code = child.poll()
        if code is not None:
            # An answered job is final by now, and then release changes nothing.
            self._release(_describe(code, self._logs / f"{job.id}.log"))
            return
        held = next((h for h in self._table.held() if h.record.id == job.id), None)
        if held is None:
            return
        if held.record.state is JobState.CANCELLING:
            self._cancel_seen = self._cancel_seen or time.monotonic()
            if time.monotonic() - self._cancel_seen > _CANCEL_GRACE_S:
                self._kill(child)
                self._release("the worker was ended after a cancel")
        elif self._is_silent(held):
            self._kill(child)
            self._release(f"the worker sent no heartbeat for {LEASE_S:g} s and was ended,")

    def _is_silent(self, held: Held) -> bool:
        """Whether the worker is late and stays so while this process runs.

        Where the whole machine slept the lease ran out too, and the worker renews it once awake.
        """
        if not held.is_late:
            self._late_seen = None
            return False
        self._late_seen = self._late_seen or time.monotonic()
        return time.monotonic() - self._late_seen > _LATE_GRACE_S

    def _release(self, blame: str) -> None:
        if self._job is not None:
            self._put_back(self._job, blame)
        self._child = self._job = None
        self._wake.set()

    def _put_back(self, job: JobRecord, blame: str) -> None:
        self._table.release(
            job.id, job.attempt, blame=blame, limit=self._max_stalls, backoff_s=_BACKOFF_S
        )
        self._changed()

    def _end_child(self) -> None:
        child = self._child
        if child is None:
            return
        child.terminate()
        try:
            child.wait(_CLOSE_GRACE_S)
        except subprocess.TimeoutExpired:
            self._kill(child)
        self._release("")

    def _kill(self, child: subprocess.Popen[bytes]) -> None:
        kill_group(child.pid)
        child.wait()


def _describe(code: int, log: Path) -> str:
    if code >= 0:
        return f"the worker ended with exit code {code} (its output: {log})"
    name = signal.Signals(-code).name
    hint = ", as the kernel does when memory runs out" if code == -signal.SIGKILL else ""
    return f"the worker was killed by {name}{hint} (its output: {log})"
