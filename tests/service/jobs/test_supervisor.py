"""The queue and its supervisor, with real worker processes and real kills."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from isogloss.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    InvalidName,
    NotFound,
)
from isogloss.service.jobs.processes import identity, is_alive, pid_of
from isogloss.service.jobs.supervisor import Jobs, JobState
from isogloss.store import Store

COUNTING = (sys.executable, str(Path(__file__).with_name("counting_worker.py")))


def spec(dictionary: str = "a", **config: object) -> dict[str, object]:
    return {"dictionary": dictionary, "recording": "r", "site": "s", "config": config}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


@pytest.fixture
def jobs(store: Store) -> Iterator[Jobs]:
    with Jobs(store, worker_command=COUNTING) as jobs:
        yield jobs


def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and any("counting_worker" in part for part in child.cmdline())
    ]


def test_a_job_runs_in_a_worker_and_gives_its_result(jobs: Jobs) -> None:
    job = jobs.submit("train", spec(total=20, pause_s=0.05))
    assert job.state is JobState.QUEUED
    seen = list(jobs.watch(job.id))
    assert seen[-1].state is JobState.SUCCEEDED
    assert seen[-1].result == {"dictionary": "a", "first": 1}
    assert (seen[-1].step, seen[-1].total_steps, seen[-1].attempt) == (20, 20, 1)
    assert seen[-1].metrics == {"fvu": pytest.approx(1 / 20)}
    states = [record.state for record in seen]
    assert JobState.RUNNING in states
    steps = [record.step for record in seen]
    assert steps == sorted(steps)
    assert len(set(steps)) > 2, "progress was not seen on the way"


def test_jobs_run_one_after_the_other_in_order(jobs: Jobs, store: Store) -> None:
    submitted = [jobs.submit("train", spec(name, total=3, pause_s=0.05)) for name in ("b", "a")]
    most = 0
    while not jobs.get(submitted[-1].id).state.is_final:
        most = max(most, len(workers()))
        time.sleep(0.02)
    assert most == 1
    ended = [jobs.wait(job.id, 10).updated for job in submitted]
    assert ended == sorted(ended)
    assert [job.id for job in jobs.list()] == [job.id for job in submitted]


def test_a_repeated_request_id_gives_the_first_job(store: Store) -> None:
    with Jobs(store, run_workers=False) as jobs:
        first = jobs.submit("train", spec(), request_id="r1")
        assert jobs.submit("train", spec(), request_id="r1").id == first.id
        assert len(jobs.list()) == 1
        with pytest.raises(AlreadyExists, match="request id 'r1' was used"):
            jobs.submit("train", spec("b"), request_id="r1")


def test_a_request_id_is_answered_after_the_job_ended(jobs: Jobs) -> None:
    first = jobs.submit("train", spec(total=1), request_id="r1")
    jobs.wait(first.id, 20)
    again = jobs.submit("train", spec(total=1), request_id="r1")
    assert (again.id, again.state) == (first.id, JobState.SUCCEEDED)


def test_equal_unfinished_work_is_one_job_and_different_work_under_its_name_is_refused(
    store: Store,
) -> None:
    with Jobs(store, run_workers=False) as jobs:
        first = jobs.submit("train", spec())
        assert jobs.submit("train", spec()).id == first.id
        with pytest.raises(AlreadyExists, match="'train/a' is being made by"):
            jobs.submit("train", spec(total=7))
        jobs.cancel(first.id)
        assert jobs.submit("train", spec(total=7)).id != first.id


@pytest.mark.parametrize(
    ("kind", "wrong", "error", "message"),
    [
        ("traim", {}, InvalidInput, "use one of train, probe, match"),
        ("train", {"dictionary": "a"}, InvalidInput, "field 'recording' of a train job is missing"),
        ("train", spec() | {"site": 3}, InvalidInput, "field 'site' of a train job is int"),
        ("train", spec("../../etc"), InvalidName, "must match"),
        ("train", spec(rate=float("nan")), InvalidInput, "plain JSON"),
        ("train", spec(rate={1, 2}), InvalidInput, "plain JSON"),
        ("match", {"match": "m", "a": "a"}, InvalidInput, "'b' of a match job is missing"),
    ],
)
def test_a_job_that_cannot_be_queued_is_refused(
    store: Store, kind: str, wrong: dict[str, object], error: type[Exception], message: str
) -> None:
    with Jobs(store, run_workers=False) as jobs:
        with pytest.raises(error, match=message):
            jobs.submit(kind, wrong)
        assert jobs.list() == []


def test_an_unknown_job_is_not_found(store: Store) -> None:
    with Jobs(store, run_workers=False) as jobs:
        for ask in (jobs.get, jobs.cancel, jobs.wait):
            with pytest.raises(NotFound, match="no job 'train-0'"):
                ask("train-0")
        with pytest.raises(NotFound, match="no job 'train-0'"):
            next(jobs.watch("train-0"))


def test_waiting_ends_at_its_deadline_and_the_job_goes_on(store: Store) -> None:
    with Jobs(store, run_workers=False) as jobs:
        job = jobs.submit("train", spec())
        with pytest.raises(DeadlineExceeded, match="was QUEUED at step 0"):
            jobs.wait(job.id, 0.2)
        assert jobs.get(job.id).state is JobState.QUEUED


def test_a_waiting_job_is_cancelled_at_once(store: Store) -> None:
    with Jobs(store, run_workers=False) as jobs:
        job = jobs.submit("train", spec())
        assert jobs.cancel(job.id).state is JobState.CANCELLED
        assert jobs.cancel(job.id).state is JobState.CANCELLED


@pytest.mark.parametrize("mode", ["", "deaf"])
def test_a_cancel_stops_the_worker_within_two_seconds(jobs: Jobs, mode: str) -> None:
    job = jobs.submit("train", spec(mode=mode, total=10_000, pause_s=0.01))
    until(lambda: jobs.get(job.id).state is JobState.RUNNING)
    asked = time.monotonic()
    assert jobs.cancel(job.id).state is JobState.CANCELLING
    assert jobs.wait(job.id, 10).state is JobState.CANCELLED
    assert time.monotonic() - asked < 2.5, "two seconds, and half a one for a busy machine"
    until(lambda: not workers())


def test_an_error_of_the_task_is_final_and_keeps_its_reason_and_message(jobs: Jobs) -> None:
    job = jobs.wait(jobs.submit("train", spec(mode="raise")).id, 20)
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error == ("INVALID_INPUT", "features 0, wanted at least 1: ask for more")


def test_a_defect_in_the_task_is_an_internal_error_that_names_the_log(jobs: Jobs) -> None:
    job = jobs.wait(jobs.submit("train", spec(mode="bug")).id, 20)
    assert job.error is not None
    assert job.error[0] == "INTERNAL_ERROR"
    assert "ZeroDivisionError: division by zero" in job.error[1]
    log = Path(job.error[1].rsplit(" ", 1)[1].rstrip(")"))
    assert "1 / (total - total)" in log.read_text()


def test_a_killed_worker_is_followed_by_an_attempt_that_resumes(jobs: Jobs, store: Store) -> None:
    job = jobs.submit("train", spec(total=150, pause_s=0.02))
    for kill in range(1, 4):
        until(lambda: jobs.get(job.id).step >= 10 * kill and len(workers()) == 1)  # noqa: B023
        for worker in workers():
            worker.kill()
    last = jobs.wait(job.id, 30)
    assert (last.state, last.result) == (JobState.SUCCEEDED, {"dictionary": "a", "first": 1})
    assert last.attempt == 4
    steps = [int(line.split()[0]) for line in (store.root / "a.steps").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(150))


def test_a_worker_that_never_gets_on_fails_the_job_with_what_happened(store: Store) -> None:
    with Jobs(store, worker_command=COUNTING, max_stalls=2) as jobs:
        job = jobs.wait(jobs.submit("train", spec(mode="die")).id, 50)
    assert (job.state, job.attempt) == (JobState.FAILED, 2)
    assert job.error is not None
    assert job.error[0] == "JOB_FAILED"
    assert "killed by SIGKILL" in job.error[1]
    assert "2 times in a row" in job.error[1]


def test_closing_ends_the_worker_and_the_next_supervisor_goes_on(store: Store) -> None:
    with Jobs(store, worker_command=COUNTING) as jobs:
        job = jobs.submit("train", spec(total=40, pause_s=0.02))
        until(lambda: jobs.get(job.id).step >= 5)
    assert workers() == []
    with pytest.raises(Conflict, match="closed"):
        jobs.get(job.id)
    with Jobs(store, run_workers=False) as jobs:
        assert jobs.get(job.id).state is JobState.QUEUED
    with Jobs(store, worker_command=COUNTING) as jobs:
        last = jobs.wait(job.id, 20)
    assert (last.state, last.step, last.attempt) == (JobState.SUCCEEDED, 40, 2)


SUPERVISOR = """
import sys, time
from isogloss.service.jobs.supervisor import Jobs
from isogloss.store import Store
jobs = Jobs(Store.open(sys.argv[1]), worker_command=sys.argv[2:])
config = {"total": 60, "pause_s": 0.03}
jobs.submit("train", {"dictionary": "a", "recording": "r", "site": "s", "config": config},
            request_id="once")
time.sleep(60)
"""


def test_a_killed_supervisor_takes_its_worker_along_and_the_next_one_resumes(
    tmp_path: Path,
) -> None:
    root = tmp_path / "store"
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(root), *COUNTING])
    try:
        count = root / "a.count"
        until(lambda: count.exists() and int(count.read_text()) >= 10)
        orphans = psutil.Process(supervisor.pid).children()
        assert len(orphans) == 1
    finally:
        supervisor.kill()
        supervisor.wait()
    until(lambda: not orphans[0].is_running() or orphans[0].status() == "zombie", 5)
    started = time.monotonic()
    with Store.open(root) as store, Jobs(store, worker_command=COUNTING) as jobs:
        last = jobs.wait(jobs.list()[0].id, 30)
        assert jobs.submit("train", dict(last.spec), request_id="once").id == last.id
    assert (last.state, last.attempt) == (JobState.SUCCEEDED, 2)
    assert time.monotonic() - started < 12, "it waited for the lease of a worker known to be dead"
    steps = [int(line.split()[0]) for line in (root / "a.steps").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(60))


def test_a_process_is_known_by_its_start_and_not_by_its_pid_alone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    name = identity(child.pid)
    assert is_alive(name)
    assert pid_of(name) == child.pid
    assert not is_alive(name + "0"), "another process with that pid was taken for it"
    assert pid_of("another-boot/7 12 345") is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not is_alive(name)
    assert is_alive(identity(os.getpid()))


def test_the_queue_imports_neither_torch_nor_faiss() -> None:
    code = (
        "import sys, isogloss.service.jobs.supervisor, isogloss.service.processes.worker;"
        "sys.exit(bool({'torch', 'faiss', 'zarr', 'grpc', 'numba'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
