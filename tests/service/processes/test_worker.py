"""The worker's side of a job: the lease, fencing, and what is fixed for all attempts."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import Fenced, JobCancelled
from isogloss.service.jobs.processes import EXIT_FENCED, EXIT_ORPHANED
from isogloss.service.jobs.queue import JobTable
from isogloss.service.tasks.heart import Heart
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.store import Store

SPEC: dict[str, object] = {"dictionary": "a", "recording": "r", "site": "s", "config": {}}


@pytest.fixture
def table(tmp_path: Path) -> Iterator[JobTable]:
    with Store.open(tmp_path / "store") as store:
        table = JobTable(store.catalog.path)
        yield table
        table.close()


@pytest.fixture
def claimed(table: JobTable) -> JobRecord:
    table.submit("train", SPEC, "")
    claimed = table.claim(10)
    assert claimed is not None
    return claimed


def beat(table: JobTable, job: JobRecord, step: int = 0) -> JobState:
    return table.beat(job.id, job.attempt, lease_s=10, step=step, total_steps=9, metrics={})


def test_an_attempt_that_was_replaced_can_change_nothing(
    table: JobTable, claimed: JobRecord
) -> None:
    assert beat(table, claimed, step=3) is JobState.RUNNING
    table.release(claimed.id, claimed.attempt, blame="", limit=5, backoff_s=0)
    second = table.claim(10)
    assert second is not None
    assert second.attempt == 2
    with pytest.raises(Fenced, match="attempt 1 of job"):
        beat(table, claimed, step=9)
    with pytest.raises(Fenced):
        table.remember(claimed.id, 1, {"uid": "other"})
    with pytest.raises(Fenced):
        table.finish(claimed.id, 1, JobState.SUCCEEDED, result={})
    table.release(claimed.id, 1, blame="late", limit=1, backoff_s=0)
    assert table.get(claimed.id).state is JobState.STARTING
    assert table.memo(claimed.id) == {}


@pytest.mark.parametrize(
    ("ended", "written"),
    [(JobState.FAILED, JobState.CANCELLED), (JobState.SUCCEEDED, JobState.SUCCEEDED)],
)
def test_a_failure_after_a_cancel_is_the_cancel_and_a_success_counts(
    table: JobTable, claimed: JobRecord, ended: JobState, written: JobState
) -> None:
    beat(table, claimed)
    table.cancel(claimed.id)
    error = ("INVALID_INPUT", "too few rows") if ended is JobState.FAILED else None
    table.finish(claimed.id, claimed.attempt, ended, error=error)
    last = table.get(claimed.id)
    assert (last.state, last.error) == (written, None)


def test_stalls_count_only_attempts_that_came_no_further(table: JobTable) -> None:
    table.submit("train", SPEC, "")
    for step in (1, 2, 3, 3, 3):
        job = table.claim(10)
        assert job is not None, "the job failed although it had made progress"
        beat(table, job, step)
        table.release(job.id, job.attempt, blame="it was killed", limit=3, backoff_s=0)
    job = table.claim(10)
    assert job is not None
    beat(table, job, 1)
    table.release(job.id, job.attempt, blame="it was killed", limit=3, backoff_s=0)
    last = table.get(job.id)
    assert (last.state, last.attempt) == (JobState.FAILED, 6)
    assert last.error is not None
    assert "it was killed 3 times in a row" in last.error[1]


def test_a_heart_reports_progress_and_brings_the_cancel(
    table: JobTable, claimed: JobRecord
) -> None:
    heart = Heart(table, claimed, on_fenced=lambda: None)
    heart.check()
    heart.progress(4, 9, {"fvu": 0.25})
    deadline = time.monotonic() + 5
    while table.get(claimed.id).step != 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert table.get(claimed.id).metrics == {"fvu": 0.25}
    asked = time.monotonic()
    table.cancel(claimed.id)
    while not heart.should_stop():
        assert time.monotonic() - asked < 2
        time.sleep(0.01)
    assert heart.is_cancelled
    with pytest.raises(JobCancelled, match="submit it again"):
        heart.check()
    heart.progress(5, 9, {})
    heart.close()
    assert table.get(claimed.id).step == 5


def test_a_heart_that_is_fenced_says_so(table: JobTable, claimed: JobRecord) -> None:
    fenced = threading.Event()
    heart = Heart(table, claimed, on_fenced=fenced.set)
    table.release(claimed.id, claimed.attempt, blame="", limit=5, backoff_s=0)
    assert fenced.wait(5)
    assert heart.should_stop() is False


def test_what_the_first_attempt_pinned_holds_for_the_next(
    table: JobTable, claimed: JobRecord
) -> None:
    heart = Heart(table, claimed, on_fenced=lambda: None)
    assert heart.pin("uid", lambda: "u1") == "u1"
    heart.close()
    table.release(claimed.id, claimed.attempt, blame="", limit=5, backoff_s=0)
    second = table.claim(10)
    assert second is not None
    heart = Heart(table, second, on_fenced=lambda: None)
    assert heart.pin("uid", lambda: "u2") == "u1"
    heart.close()


def test_a_worker_of_an_old_attempt_ends_without_running(
    table: JobTable, claimed: JobRecord, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "isogloss.service.processes.worker",
        str(tmp_path / "store"),
        claimed.id,
    ]
    ended = subprocess.run([*command, str(claimed.attempt + 1)], check=False, timeout=60)
    assert ended.returncode == EXIT_FENCED
    assert table.get(claimed.id) == claimed


def test_a_worker_of_a_cancelled_job_ends_it_without_running(
    table: JobTable, claimed: JobRecord, tmp_path: Path
) -> None:
    table.cancel(claimed.id)
    command = [
        sys.executable,
        "-m",
        "isogloss.service.processes.worker",
        str(tmp_path / "store"),
        claimed.id,
    ]
    ended = subprocess.run(
        [*command, str(claimed.attempt)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, "failed" in ended.stderr) == (0, False), ended.stderr
    assert table.get(claimed.id).state is JobState.CANCELLED


def test_a_worker_without_its_supervisor_ends_at_once(
    table: JobTable, claimed: JobRecord, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "isogloss.service.processes.worker",
        str(tmp_path / "store"),
        claimed.id,
    ]
    ended = subprocess.run(
        [*command, str(claimed.attempt)],
        env={"ISOGLOSS_SUPERVISOR": "1"},
        check=False,
        timeout=60,
    )
    assert ended.returncode == EXIT_ORPHANED
    assert table.get(claimed.id) == claimed
