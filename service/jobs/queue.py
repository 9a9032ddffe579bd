"""The queue of jobs: one table in an SQLite file, safe from several processes of one machine.

A row is changed only by statements that name its attempt, so that a worker which was given up for
dead can change nothing when it wakes (fencing). Every change raises ``version``, which is what
watchers wait for.
"""

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import AlreadyExists, Fenced, NotFound, ResourceExhausted, StorageFull
from isogloss.service.jobs.boot_clock import boot, now_s
from isogloss.service.jobs.limits import JobNeeds, too_large
from isogloss.service.jobs.rows import asks_for, changes_of, record_of, spec_text
from isogloss.service.jobs.schema import open_table, storage_errors
from isogloss.service.values.job_kinds import kind_of
from isogloss.service.values.job_specs import JobSpec
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.service.values.state_directory import make_state_directory
from isogloss.store import Store, check_id, spend_reserve

QUEUE_NAME = "jobs.sqlite"
"""File of the queue where the catalog is none of SQLite's."""

_HELD = ("STARTING", "RUNNING", "CANCELLING")
_MAX_LEFT = "the oldest ones that ended are forgotten after a while, with their logs"
_NEXT = """
with held as (select client, count(*) as running from job
              where state in ('STARTING','RUNNING','CANCELLING') group by client),
     served as (select client, max(turn) as last from job group by client)
select job.* from job left join held using (client) left join served using (client)
where state='QUEUED' and (not_before<=? or boot<>?)
order by coalesce(running, 0), last, number
"""
"""The jobs that wait: first of the client that has the fewest that run, and of these of the one
whose last attempt began longest ago; then by age."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A job that a worker is running, as its supervisor needs to know it."""

    record: JobRecord
    """The job."""
    is_late: bool
    """Whether the worker's right to it ended, or the machine that gave it was started again."""
    holder: str | None
    """Name of the worker process, see :func:`isogloss.service.jobs.processes.identity`."""
    ran_s: float
    """For how many seconds the job ran by its last heartbeat, over all attempts; the start of a
    worker and its loading left out."""
    limit_s: float
    """For how many seconds it may; 0: as long as any job."""


class JobTable:
    """The queue of a store's jobs (training, probes, matches), in an SQLite file.

    Holds one connection to the file; the threads of this process share it.

    Args:
        path: the file; made where it is missing.
        is_shared_memory: whether all processes that use the file can map the same memory, as on a
            local disk. If so SQLite keeps a write-ahead log. If not, as on a network file system,
            it keeps a rollback journal, which needs file locks only.

    Raises:
        StorageError: the file cannot be opened or made.
        UnsupportedVersion: a newer release wrote the file.
    """

    def __init__(self, path: Path, *, is_shared_memory: bool = True) -> None:
        self._lock = threading.RLock()
        self._path = path
        self._connection = open_table(path, is_shared_memory=is_shared_memory)

    @classmethod
    def of(cls, store: Store) -> "JobTable":
        """Open the queue of a store, in the catalog's file if it is one, else in its own file.

        Raises:
            StorageError: the file cannot be opened or made.
        """
        if store.fencing == "lock":
            return cls(store.catalog.path)
        return cls(make_state_directory(store) / QUEUE_NAME, is_shared_memory=False)

    def close(self) -> None:
        """Close the connection; the table cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        with self._lock, storage_errors(self._path):
            return self._connection.execute(sql, tuple(values)).fetchall()

    # What clients do.

    def submit(
        self, spec: JobSpec, request_id: str, needs: JobNeeds | None = None, *, waiting: int = 0
    ) -> JobRecord:
        """Add a job. Where an equal job exists that has not ended, return that one.

        Args:
            spec: the work to do; its class says the kind of job.
            request_id: any text; a second call with the same one returns the first call's job.
                Empty: none.
            needs: what the job needs, and for whom it is; None: nothing is known.
            waiting: how many jobs of one client may have not ended; 0: any number.

        Returns:
            The new job, or the one that existed.

        Raises:
            InvalidInput: no kind of job has this class of spec, or JSON cannot hold its values.
            InvalidName: what the job is to make has a name that is no id.
            AlreadyExists: the request id was used for another spec, or an unfinished job makes a
                different thing of the same name.
            ResourceExhausted: as many jobs of the client wait as may.
        """
        needs = needs or JobNeeds()
        kind = kind_of(spec)
        text = spec_text(kind, spec)
        target = f"{kind.name}/{check_id(spec.target)}"
        with self._transaction():
            for row in self._rows(
                "select * from job where request_id=? or (target=? and state not in"
                " ('SUCCEEDED','FAILED','CANCELLED')) order by request_id is ? desc, number",
                (request_id or None, target, request_id or None),
            ):
                is_replay = bool(request_id) and row["request_id"] == request_id
                if row["state"] == "CANCELLING" and not is_replay:
                    continue
                if not asks_for(row, kind, text):
                    cause = (
                        f"request id {request_id!r} was used for"
                        if is_replay
                        else f"{target!r} is being made by"
                    )
                    raise AlreadyExists(
                        f"{cause} job {row['id']!r} with spec {row['spec']}; this one has {text}: "
                        "use a new request id and another name, or cancel that job"
                    )
                return record_of(row)
            self._check_waiting(needs.client, waiting)
            now = time.time()
            made = self._rows(
                "insert into job(id, kind, spec, target, request_id, state, created, updated,"
                " client, memory, limit_s) values(?,?,?,?,?,'QUEUED',?,?,?,?,?) returning *",
                (
                    f"{kind.name}-{uuid.uuid4().hex[:12]}",
                    *(kind.name, text, target, request_id or None, now, now),
                    *(needs.client, needs.memory_bytes, needs.time_s or 0.0),
                ),
            )
            return record_of(made[0])

    def _check_waiting(self, client: str, most: int) -> None:
        found = self._rows(
            "select count(*) from job where client=?"
            " and state in ('QUEUED','STARTING','RUNNING','CANCELLING')",
            (client,),
        )[0][0]
        if most and found >= most:
            raise ResourceExhausted(
                f"{found} jobs from {client or 'here'} have not ended, which is the limit: wait "
                "for some, or cancel some"
            )

    def get(self, job: str) -> JobRecord:
        """Return a job, or raise ``NotFound``."""
        return self.read(job)[0]

    def read(self, job: str) -> tuple[JobRecord, int]:
        """Return a job and its version, which every change of it raises."""
        rows = self._rows("select * from job where id=?", (job,))
        if not rows:
            raise NotFound(
                f"no job {job!r}; `isogloss jobs` lists those of this store: {_MAX_LEFT}"
            )
        return record_of(rows[0]), rows[0]["version"]

    def versions(self, jobs: Collection[str]) -> dict[str, int]:
        """Return the version of each of the given jobs that there is."""
        rows = self._rows(
            "select id, version from job where id in (select value from json_each(?))",
            (json.dumps(sorted(jobs)),),
        )
        return {row["id"]: row["version"] for row in rows}

    def all(self) -> list[JobRecord]:
        """Return all jobs, oldest first."""
        return [record_of(row) for row in self._rows("select * from job order by number")]

    def cancel(self, job: str) -> JobRecord:
        """Ask a job to stop.

        A queued job is cancelled at once; one that has ended stays as it is. Where the disk is full
        the store's reserve makes room for that.
        """
        try:
            self._cancel(job)
        except StorageFull:
            if not spend_reserve(self._path.parent):
                raise
            self._cancel(job)
        return self.get(job)

    def _cancel(self, job: str) -> None:
        self._rows(
            "update job set state=case state when 'QUEUED' then 'CANCELLED' else 'CANCELLING' end,"
            " updated=?, version=version+1"
            " where id=? and state in ('QUEUED','STARTING','RUNNING') returning id",
            (time.time(), job),
        )

    # What a supervisor does.

    def claim(
        self, lease_s: float, *, at_a_time: int = 1 << 30, budget_bytes: int = 1 << 62
    ) -> JobRecord | None:
        """Take a waiting job for a new attempt; None when none may start now.

        Clients take turns. A job that does not fit beside those that run waits, and all that come
        after it do too, so that it is not overtaken for ever. One that does not fit at all fails.
        Jobs of kinds that change the same things run one after the other.

        Args:
            lease_s: for how many seconds its worker keeps it without a heartbeat.
            at_a_time: how many jobs may run at a time.
            budget_bytes: memory that all of them may need together.

        Returns:
            The job, which is the caller's to run.
        """
        now = now_s()
        with self._transaction():
            held = self._rows(
                "select kind, memory from job where state in ('STARTING','RUNNING','CANCELLING')"
            )
            used = sum(row["memory"] for row in held)
            busy = {changes_of(row["kind"]) for row in held} - {""}
            for row in self._rows(_NEXT, (now, boot())):
                if len(held) >= at_a_time:
                    return None
                if row["memory"] > budget_bytes:
                    found = too_large(row["memory"], budget_bytes)
                    self._end(row, JobState.FAILED, error=(found.reason, str(found)))
                elif changes_of(row["kind"]) not in busy:
                    return (
                        self._take(row, lease_s) if row["memory"] + used <= budget_bytes else None
                    )
        return None

    def _take(self, row: sqlite3.Row, lease_s: float) -> JobRecord:
        rows = self._rows(
            "update job set state='STARTING', attempt=attempt+1, furthest_before=furthest,"
            " lease_until=?, boot=?, holder=null, updated=?, version=version+1,"
            " turn=(select max(turn) + 1 from job) where number=? returning *",
            (now_s() + lease_s, boot(), time.time(), row["number"]),
        )
        return record_of(rows[0])

    def hold(self, job: str, attempt: int, holder: str) -> None:
        """Write down which process runs an attempt."""
        self._rows("update job set holder=? where id=? and attempt=?", (holder, job, attempt))

    def held(self) -> list[Held]:
        """Return the jobs that workers hold or held, oldest first."""
        rows = self._rows(
            "select * from job where state in ('STARTING','RUNNING','CANCELLING') order by number"
        )
        now, here = now_s(), boot()
        return [
            Held(
                record=record_of(row),
                is_late=row["boot"] != here or row["lease_until"] < now,
                holder=row["holder"],
                ran_s=row["ran_s"],
                limit_s=row["limit_s"],
            )
            for row in rows
        ]

    def release(
        self, job: str, attempt: int, *, blame: str, limit: int, backoff_s: float
    ) -> JobState | None:
        """Put a job back whose worker ended without an answer; return its new state, if it has one.

        A job that was being cancelled is cancelled instead. An attempt that came no further than
        those before it counts as a stall, unless the worker is not to blame. After each stall the
        next attempt waits longer; after ``limit`` stalls in a row the job fails.

        Args:
            job: id of the job.
            attempt: number of the attempt that ended; nothing happens if another attempt has the
                job.
            blame: what happened to the worker. Empty: its supervisor ended, and no stall counts.
            limit: after this number of stalls in a row the job fails.
            backoff_s: pause after the first stall; after n stalls it is ``2**n - 1`` times this.
        """
        with self._transaction():
            rows = self._rows("select * from job where id=? and attempt=?", (job, attempt))
            if not rows or rows[0]["state"] not in _HELD:
                return None
            row = rows[0]
            stalls = 0 if row["furthest"] > row["furthest_before"] else row["stalls"] + bool(blame)
            if row["state"] == "CANCELLING":
                self._end(row, JobState.CANCELLED)
                return JobState.CANCELLED
            if blame and stalls >= limit:
                message = (
                    f"{blame} {stalls} times in a row at step {row['step']} of "
                    f"{row['total_steps']}, without progress: give the job more memory or a "
                    "smaller batch, then submit it again (it resumes from its checkpoint)"
                )
                self._end(row, JobState.FAILED, error=("JOB_FAILED", message))
                return JobState.FAILED
            not_before = now_s() + backoff_s * (2**stalls - 1)
            self._rows(
                "update job set state='QUEUED', stalls=?, not_before=?, lease_until=0, boot=?,"
                " holder=null, updated=?, version=version+1 where number=?",
                (stalls, not_before, boot(), time.time(), row["number"]),
            )
            return JobState.QUEUED

    def fail(self, job: str, attempt: int, error: tuple[str, str]) -> None:
        """End a job that a worker holds; its worker sees that within a second, and ends.

        Args:
            job: id of the job.
            attempt: number of the attempt; nothing happens if another has the job.
            error: reason and message. A job that was being cancelled is cancelled instead.
        """
        with self._transaction():
            rows = self._rows("select * from job where id=? and attempt=?", (job, attempt))
            if rows and rows[0]["state"] == "CANCELLING":
                self._end(rows[0], JobState.CANCELLED)
            elif rows and rows[0]["state"] in _HELD:
                self._end(rows[0], JobState.FAILED, error=error)

    def forget(self, keep_s: float, keep: int) -> list[str]:
        """Remove jobs that ended: those that did long ago, and the oldest where there are many.

        Args:
            keep_s: jobs that ended less than so many seconds ago stay, if they are not too many.
            keep: how many stay at most.

        Returns:
            The ids of the removed jobs.
        """
        rows = self._rows(
            "delete from job where state in ('SUCCEEDED','FAILED','CANCELLED') and (updated < ? or"
            " number not in (select number from job where"
            " state in ('SUCCEEDED','FAILED','CANCELLED') order by updated desc, number desc"
            " limit ?)) returning id",
            (time.time() - keep_s, keep),
        )
        return [row["id"] for row in rows]

    # What the worker of one attempt does.

    def beat(
        self,
        job: str,
        attempt: int,
        *,
        lease_s: float,
        step: int,
        total_steps: int,
        metrics: Mapping[str, float],
        counts: bool = True,
    ) -> JobState:
        """Renew a worker's lease on a job, and write down how far the job is.

        Args:
            job: id of the job.
            attempt: number of the attempt that reports.
            lease_s: for how many seconds from now on the worker keeps the job.
            step: steps done.
            total_steps: steps in all; 0 while unknown.
            metrics: the newest figures, by name.
            counts: whether the job ran since the last heartbeat; else its worker was started or
                loaded, which its time limit leaves out.

        Returns:
            The job's state; ``CANCELLING`` tells the worker to stop.

        Raises:
            Fenced: the job was given to another attempt, or ended.
        """
        text, now = json.dumps(dict(metrics)), now_s()
        rows = self._rows(
            "update job set state=case state when 'STARTING' then 'RUNNING' else state end,"
            # the time since the last heartbeat, of which no machine was asleep for most
            " ran_s=ran_s + case when ? and boot=? then max(0, min(?, ? - lease_until + ?))"
            " else 0 end,"
            " lease_until=?, boot=?, version=version + (state='STARTING' or step<>? or"
            " total_steps<>? or metrics<>?), step=?, total_steps=?, metrics=?,"
            " furthest=max(furthest, ?), updated=?"
            " where id=? and attempt=? and state in ('STARTING','RUNNING','CANCELLING')"
            " returning state",
            (
                *(counts, boot(), lease_s, now, lease_s),
                *(now + lease_s, boot(), step, total_steps, text),
                *(step, total_steps, text, step, time.time()),
                *(job, attempt),
            ),
        )
        return JobState(self._fenced(rows, job, attempt)["state"])

    def peek(self, job: str, attempt: int) -> JobState:
        """Read the state only, which costs no write. Raises ``Fenced`` as ``beat`` does."""
        rows = self._rows(
            "select state from job where id=? and attempt=?"
            " and state in ('STARTING','RUNNING','CANCELLING')",
            (job, attempt),
        )
        return JobState(self._fenced(rows, job, attempt)["state"])

    def memo(self, job: str) -> dict[str, object]:
        """Return what earlier attempts wrote down with :meth:`remember`."""
        return json.loads(self._rows("select memo from job where id=?", (job,))[0]["memo"])

    def remember(self, job: str, attempt: int, memo: Mapping[str, object]) -> None:
        """Write down, durably, the values that all attempts of this job must use.

        Raises:
            Fenced: the job was given to another attempt, or ended.
        """
        rows = self._rows(
            "update job set memo=? where id=? and attempt=?"
            " and state in ('STARTING','RUNNING','CANCELLING') returning id",
            (json.dumps(dict(memo), sort_keys=True), job, attempt),
        )
        self._fenced(rows, job, attempt)

    def finish(
        self,
        job: str,
        attempt: int,
        state: JobState,
        *,
        result: Mapping[str, object] | None = None,
        error: tuple[str, str] | None = None,
    ) -> None:
        """Write the end of a job, cancelled if it failed after a cancel; Fenced as ``beat``."""
        with self._transaction():
            rows = self._rows(
                "select * from job where id=? and attempt=?"
                " and state in ('STARTING','RUNNING','CANCELLING')",
                (job, attempt),
            )
            row = self._fenced(rows, job, attempt)
            if row["state"] == "CANCELLING" and state is JobState.FAILED:
                state, error = JobState.CANCELLED, None
            self._end(row, state, result=result, error=error)

    def _fenced(self, rows: Sequence[sqlite3.Row], job: str, attempt: int) -> sqlite3.Row:
        if not rows:
            raise Fenced(
                f"attempt {attempt} of job {job!r} is no longer the one that counts: "
                "another worker has the job, or it ended; nothing was changed"
            )
        return rows[0]

    def _end(
        self,
        row: sqlite3.Row,
        state: JobState,
        *,
        result: Mapping[str, object] | None = None,
        error: tuple[str, str] | None = None,
    ) -> None:
        reason, message = error or (None, None)
        self._rows(
            "update job set state=?, result=?, reason=?, message=?, lease_until=0, holder=null,"
            " updated=?, version=version+1 where number=?",
            (
                state.value,
                None if result is None else json.dumps(dict(result), sort_keys=True),
                *(reason, message, time.time(), row["number"]),
            ),
        )

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with self._lock, storage_errors(self._path):
            self._connection.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")
