"""The worker processes of a queue: started, watched, ended, and their jobs put back.

A worker is a fresh interpreter, ``python -m isogloss.service.processes.worker STORE JOB ATTEMPT``:
never a fork of this process and never a re-import of the caller's ``__main__``. It holds its job
by a lease that its heartbeat renews. When it dies, the next attempt is started, which resumes; when
this process dies, its workers die with it, and the next owner of the store resumes.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import DeadlineExceeded, Fenced, IsoglossError
from isogloss.service.jobs.limits import JobLimits
from isogloss.service.jobs.processes import (
    LEASE_S,
    SUPERVISOR_VARIABLE,
    identity,
    is_alive,
    kill_group,
    pid_of,
)
from isogloss.service.jobs.queue import Held, JobTable
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.service.values.state_directory import location
from isogloss.store import FileSystem, Store, create_if_missing, make_directories

_BACKOFF_S = 0.1
"""Pause before the attempt after the first stall; after n stalls it is ``2**n - 1`` times this."""
_CANCEL_GRACE_S = 1.5
"""How long a worker may take to end by itself after a cancel; files are whole or absent."""
_LATE_GRACE_S = LEASE_S / 3
"""How long a worker may be late before it is ended: longer than it pauses between heartbeats."""
_CLOSE_GRACE_S = 3.0
_POLL_S = 0.1
_IDLE_POLL_S = 1.0
_FORGET_S = 600.0
"""How often jobs that ended are looked through for those to forget."""

_NEXT = {
    JobState.QUEUED: "another one goes on with it",
    JobState.CANCELLED: "the job is cancelled",
    JobState.FAILED: "the job fails, since none of its last workers came further",
}
"""What becomes of a job whose worker is gone."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """A worker that runs."""

    child: subprocess.Popen[bytes]
    job: JobRecord
    cancel_seen: float | None = None
    late_seen: float | None = None

    def is_silent(self, held: Held) -> bool:
        """Whether the worker is late and stays so while this process runs.

        Where the whole machine slept the lease ran out too, and the worker renews it once awake.
        """
        if not held.is_late:
            self.late_seen = None
            return False
        self.late_seen = self.late_seen or time.monotonic()
        return time.monotonic() - self.late_seen > _LATE_GRACE_S

    def is_deaf(self) -> bool:
        """Whether the worker goes on though its job was cancelled a while ago."""
        self.cancel_seen = self.cancel_seen or time.monotonic()
        return time.monotonic() - self.cancel_seen > _CANCEL_GRACE_S

    def kill(self) -> None:
        kill_group(self.child.pid)
        self.child.wait()


class Workers:
    """One thread that starts workers, notices when they end, and puts their jobs back.

    The same thread starts every worker and lives as long as they may: Linux sends a child its
    parent-death signal when the *thread* that started it ends.
    """

    def __init__(
        self,
        table: JobTable,
        places: tuple[Store, Path],
        command: Sequence[str],
        limits: JobLimits,
        *,
        max_stalls: int,
        on_change: Callable[[], None],
    ) -> None:
        """Start the thread.

        Args:
            table: the queue.
            places: the store, and the directory of the workers' logs.
            command: starts a worker; ``STORE JOB ATTEMPT`` is appended.
            limits: how many run at a time, with how much memory, and for how long.
            max_stalls: a job fails after so many attempts in a row without progress.
            on_change: called in the thread when a job changed.
        """
        self._table = table
        self._store, self._logs = places
        self._command = tuple(command)
        self._limits = limits
        self._max_stalls = max_stalls
        self._changed = on_change
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._runs: dict[str, _Run] = {}
        self._forgot: float | None = None
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="isogloss-jobs", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    def close(self) -> None:
        """End the workers and the thread; their jobs stay in the queue."""
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._turn()
                self._trouble = ""
                pause_s = _POLL_S if self._runs else _IDLE_POLL_S
            except Fenced as error:
                _log.warning("the jobs of %s have another owner: %s", self._store.root, error)
                break
            except Exception as error:
                # The disk may be full or busy: the queue is durable, so look again later.
                self._say(error)
                pause_s = _IDLE_POLL_S
            self._wake.wait(pause_s)
            self._wake.clear()
        self._end_all()

    def _say(self, error: Exception) -> None:
        """Log what keeps this thread from its work, once while it lasts."""
        if str(error) == self._trouble:
            return
        self._trouble = str(error)
        trace = None if isinstance(error, IsoglossError | OSError) else error
        where = self._store.root
        _log.error("the jobs of %s wait, to be tried again: %s", where, error, exc_info=trace)

    def _turn(self) -> None:
        """Look after the workers, and start those for which there is room.

        Raises:
            Fenced: another process owns the store by now, and runs its jobs.
        """
        for run in list(self._runs.values()):
            self._look_after(run)
        if len(self._runs) >= self._limits.at_a_time:
            return
        self._store.check_owner()
        self._take_over()
        self._forget()
        while len(self._runs) < self._limits.at_a_time and not self._closing.is_set():
            if not self._start_next():
                return

    def _take_over(self) -> None:
        """Put back the jobs that earlier owners of the store left behind."""
        for held in self._table.held():
            if held.record.id in self._runs:
                continue
            if held.holder is not None and is_alive(held.holder):
                # An orphan that outlived its supervisor: it must not write beside its successor.
                kill_group(pid_of(held.holder))
            elif held.holder is None or pid_of(held.holder) is not None or held.is_late:
                # Its worker is gone from this machine, or its lease ran out on another one.
                self._put_back(held.record, "")

    def _forget(self) -> None:
        """Forget jobs that ended long ago or are too many, with their logs."""
        now = time.monotonic()
        if self._forgot is not None and now - self._forgot < _FORGET_S:
            return
        self._forgot = now
        for job in self._table.forget(self._limits.keep_s, self._limits.keep):
            (self._logs / f"{job}.log").unlink(missing_ok=True)

    def _start_next(self) -> bool:
        """Start a worker for the next job; return whether there was one that may run."""
        limits = self._limits
        job = self._table.claim(
            LEASE_S, at_a_time=limits.at_a_time, budget_bytes=limits.budget_bytes
        )
        if job is None:
            return False
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
            child = subprocess.Popen(
                [*self._command, location(self._store), job.id, str(job.attempt)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._runs[job.id] = _Run(child, job)
        self._table.hold(job.id, job.attempt, identity(child.pid))
        self._changed()
        return True

    def _look_after(self, run: _Run) -> None:
        code = run.child.poll()
        if code is not None:
            # An answered job is final by now, and then release changes nothing.
            self._release(run, _describe(code, self._logs / f"{run.job.id}.log"))
            return
        held = next((h for h in self._table.held() if h.record.id == run.job.id), None)
        if held is None:
            return
        limit_s = min(held.limit_s or self._limits.time_s, self._limits.time_s)
        if held.record.state is JobState.CANCELLING:
            if run.is_deaf():
                run.kill()
                self._release(run, "the worker was ended after a cancel")
        elif held.ran_s > limit_s:
            error = _too_long(held, limit_s)
            self._table.fail(run.job.id, run.job.attempt, error)
            _log.warning("job %s fails: %s", run.job.id, error[1])
            run.kill()
            self._release(run, "")
        elif run.is_silent(held):
            run.kill()
            self._release(run, f"the worker sent no heartbeat for {LEASE_S:g} s and was ended,")

    def _release(self, run: _Run, blame: str) -> None:
        state, job = self._put_back(run.job, blame), run.job
        if blame and state is not None:  # none: the job had its answer before the worker ended
            where = f"job {job.id}, attempt {job.attempt}, process {run.child.pid}"
            _log.warning("%s: %s; %s", where, blame.removesuffix(","), _NEXT[state])
        del self._runs[run.job.id]
        self._wake.set()

    def _put_back(self, job: JobRecord, blame: str) -> JobState | None:
        state = self._table.release(
            job.id, job.attempt, blame=blame, limit=self._max_stalls, backoff_s=_BACKOFF_S
        )
        self._changed()
        return state

    def _end_all(self) -> None:
        for run in self._runs.values():
            run.child.terminate()
        end = time.monotonic() + _CLOSE_GRACE_S
        for run in list(self._runs.values()):
            try:
                run.child.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                run.kill()
            try:
                self._release(run, "")
            except IsoglossError as error:  # the next owner puts it back
                self._say(error)


def _too_long(held: Held, limit_s: float) -> tuple[str, str]:
    record = held.record
    error = DeadlineExceeded(
        f"the job ran {held.ran_s:,.0f} s, over {record.attempt} attempts, and its limit is "
        f"{limit_s:,.0f} s; it was at step {record.step} of {record.total_steps}: submit it again "
        "to go on from its checkpoint, with a longer time limit, or serve with a larger --job-time"
    )
    return error.reason, str(error)


def _describe(code: int, log: Path) -> str:
    if code >= 0:
        return f"the worker ended with exit code {code} (its output: {log})"
    name = signal.Signals(-code).name
    hint = ", as the kernel does when memory runs out" if code == -signal.SIGKILL else ""
    return f"the worker was killed by {name}{hint} (its output: {log})"
