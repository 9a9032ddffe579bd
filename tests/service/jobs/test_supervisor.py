"""The queue and its supervisor, with real worker processes and real kills."""

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
    Fenced,
    InvalidInput,
    InvalidName,
    NotFound,
)
from isogloss.service.jobs import workers as worker_processes
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.job_kinds import read_spec
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.jobs import JobState
from isogloss.service.values.results import SiteRef
from isogloss.store import Store

COUNTING = (sys.executable, str(Path(__file__).with_name("counting_worker.py")))


FIELDS: dict[str, object] = {"dictionary": "a", "recording": "r", "site": "s", "config": {}}


def spec(dictionary: str = "a", **config: object) -> TrainSpec:
    return TrainSpec(
        dictionary=dictionary, sources=(SiteRef(recording="r", site="s"),), config=config
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


@pytest.fixture
def jobs(store: Store) -> Iterator[Jobs]:
    with Jobs(store, worker_command=COUNTING) as jobs:
        yield jobs


def until(condition: Callable[[], bool]) -> None:
    """Wait; a test that waits in vain ends at pytest's own limit."""
    while not condition():
        time.sleep(0.02)


def workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and any("counting_worker" in part for part in child.cmdline())
    ]


def test_a_job_runs_in_a_worker_and_gives_its_result(jobs: Jobs) -> None:
    job = jobs.submit(spec(total=20, pause_s=0.05))
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
    submitted = [jobs.submit(spec(name, total=3, pause_s=0.05)) for name in ("b", "a")]
    most = 0
    while not jobs.get(submitted[-1].id).state.is_final:
        most = max(most, len(workers()))
        time.sleep(0.02)
    assert most == 1
    ended = [jobs.wait(job.id).updated for job in submitted]
    assert ended == sorted(ended)
    assert [job.id for job in jobs.list()] == [job.id for job in submitted]


def test_a_repeated_request_id_gives_the_first_job(store: Store) -> None:
    with Jobs(store, run_workers=False) as jobs:
        first = jobs.submit(spec(), request_id="r1")
        assert jobs.submit(spec(), request_id="r1").id == first.id
        assert len(jobs.list()) == 1
        with pytest.raises(AlreadyExists, match="request id 'r1' was used"):
            jobs.submit(spec("b"), request_id="r1")


def test_a_request_id_is_answered_after_the_job_ended(jobs: Jobs) -> None:
    first = jobs.submit(spec(total=1), request_id="r1")
    jobs.wait(first.id)
    again = jobs.submit(spec(total=1), request_id="r1")
    assert (again.id, again.state) == (first.id, JobState.SUCCEEDED)


def test_equal_unfinished_work_is_one_job_and_different_work_under_its_name_is_refused(
    store: Store,
) -> None:
    with Jobs(store, run_workers=False) as jobs:
        first = jobs.submit(spec())
        assert jobs.submit(spec()).id == first.id
        with pytest.raises(AlreadyExists, match="'train/a' is being made by"):
            jobs.submit(spec(total=7))
        jobs.cancel(first.id)
        assert jobs.submit(spec(total=7)).id != first.id


@pytest.mark.parametrize(
    ("kind", "wrong", "error", "message"),
    [
        ("traim", {}, InvalidInput, "use one of train, probe, match"),
        ("train", {"dictionary": "a"}, InvalidInput, "field 'recording' of a train job is missing"),
        ("train", FIELDS | {"site": 3}, InvalidInput, "field 'site' of a train job is int"),
        ("train", FIELDS | {"dictionary": "../../etc"}, InvalidName, "must match"),
        ("train", FIELDS | {"config": {"rate": float("nan")}}, InvalidInput, "plain JSON"),
        ("train", FIELDS | {"config": {"rate": {1, 2}}}, InvalidInput, "plain JSON"),
        ("match", {"match": "m", "a": "a"}, InvalidInput, "'b' of a match job is missing"),
    ],
)
def test_a_job_that_cannot_be_queued_is_refused(
    store: Store, kind: str, wrong: dict[str, object], error: type[Exception], message: str
) -> None:
    with Jobs(store, run_workers=False) as jobs:
        with pytest.raises(error, match=message):
            jobs.submit(read_spec(kind, wrong))
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
        job = jobs.submit(spec())
        with pytest.raises(DeadlineExceeded, match="was QUEUED at step 0"):
            jobs.wait(job.id, 0.2)
        assert jobs.get(job.id).state is JobState.QUEUED


def test_a_waiting_job_is_cancelled_at_once(store: Store) -> None:
    with Jobs(store, run_workers=False) as jobs:
        job = jobs.submit(spec())
        assert jobs.cancel(job.id).state is JobState.CANCELLED
        assert jobs.cancel(job.id).state is JobState.CANCELLED


@pytest.mark.parametrize("mode", ["", "deaf"])
def test_a_cancel_stops_the_worker_before_it_is_done(jobs: Jobs, mode: str) -> None:
    job = jobs.submit(spec(mode=mode, total=10_000, pause_s=0.01))
    until(lambda: jobs.get(job.id).state is JobState.RUNNING)
    assert jobs.cancel(job.id).state is JobState.CANCELLING
    assert jobs.wait(job.id).state is JobState.CANCELLED
    assert jobs.get(job.id).step < 10_000, "the worker did all of its work in spite of the cancel"
    until(lambda: not workers())


def test_an_error_of_the_task_is_final_and_keeps_its_reason_and_message(jobs: Jobs) -> None:
    job = jobs.wait(jobs.submit(spec(mode="raise")).id)
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error == ("INVALID_INPUT", "features 0, wanted at least 1: ask for more")


def test_a_defect_in_the_task_is_an_internal_error_that_names_the_log(jobs: Jobs) -> None:
    job = jobs.wait(jobs.submit(spec(mode="bug")).id)
    assert job.error is not None
    assert job.error[0] == "INTERNAL_ERROR"
    assert "ZeroDivisionError: division by zero" in job.error[1]
    log = Path(job.error[1].rsplit(" ", 1)[1].rstrip(")"))
    assert "1 / (total - total)" in log.read_text()


def test_what_the_system_refuses_a_task_is_no_defect(jobs: Jobs) -> None:
    job = jobs.wait(jobs.submit(spec(mode="full")).id)
    assert job.error is not None
    assert job.error[0] == "STORAGE_FULL"
    assert "free some space" in job.error[1]


def test_a_killed_worker_is_followed_by_an_attempt_that_resumes(
    jobs: Jobs, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    job = jobs.submit(spec(total=150, pause_s=0.02))
    for kill in range(1, 4):
        while (now := jobs.get(job.id)).attempt < kill or now.step < 10 * kill or not workers():
            time.sleep(0.02)
        for worker in workers():
            worker.kill()
    last = jobs.wait(job.id)
    assert (last.state, last.result) == (JobState.SUCCEEDED, {"dictionary": "a", "first": 1})
    assert last.attempt == 4
    said = [one.getMessage() for one in caplog.records if f"job {job.id}, " in one.getMessage()]
    assert len(said) == 3  # of the three that were killed, and not of the one that was done
    for attempt, line in enumerate(said, start=1):
        assert line.startswith(f"job {job.id}, attempt {attempt}, process ")
        assert "the worker was killed by SIGKILL" in line
        assert line.endswith("; another one goes on with it")
    steps = [int(line.split()[0]) for line in (store.root / "a.steps").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(150))


def test_a_worker_that_never_gets_on_fails_the_job_with_what_happened(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with Jobs(store, worker_command=COUNTING, max_stalls=2) as jobs:
        job = jobs.wait(jobs.submit(spec(mode="die")).id)
    assert (job.state, job.attempt) == (JobState.FAILED, 2)
    assert job.error is not None
    assert job.error[0] == "JOB_FAILED"
    assert "killed by SIGKILL" in job.error[1]
    assert "2 times in a row" in job.error[1]
    assert "; the job fails, since none of its last workers came further" in caplog.text


def test_closing_ends_the_worker_and_the_next_supervisor_goes_on(store: Store) -> None:
    with Jobs(store, worker_command=COUNTING) as jobs:
        job = jobs.submit(spec(total=40, pause_s=0.02))
        until(lambda: jobs.get(job.id).step >= 5)
    assert workers() == []
    with pytest.raises(Conflict, match="closed"):
        jobs.get(job.id)
    with Jobs(store, run_workers=False) as jobs:
        assert jobs.get(job.id).state is JobState.QUEUED
    with Jobs(store, worker_command=COUNTING) as jobs:
        last = jobs.wait(job.id)
    assert (last.state, last.step, last.attempt) == (JobState.SUCCEEDED, 40, 2)


SUPERVISOR = """
import sys, time
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.results import SiteRef
from isogloss.store import Store
jobs = Jobs(Store.open(sys.argv[1]), worker_command=sys.argv[2:])
config = {"total": 60, "pause_s": 0.03}
sources = (SiteRef(recording="r", site="s"),)
jobs.submit(TrainSpec(dictionary="a", sources=sources, config=config), request_id="once")
time.sleep(60)
"""


def test_a_killed_supervisor_takes_its_worker_along_and_the_next_one_resumes(
    tmp_path: Path,
) -> None:
    root = tmp_path / "store"
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(root), *COUNTING])
    try:
        count = root / "a.count"
        while not count.exists() or int(count.read_text()) < 10:
            assert supervisor.poll() is None, "the supervisor ended by itself"
            time.sleep(0.02)
        orphans = psutil.Process(supervisor.pid).children()
        assert len(orphans) == 1
    finally:
        supervisor.kill()
        supervisor.wait()
    until(lambda: not orphans[0].is_running() or orphans[0].status() == "zombie")
    with Store.open(root) as store, Jobs(store, run_workers=False) as jobs:
        (left,) = jobs.list()
        assert jobs._table.get(left.id).state is JobState.RUNNING  # the killed one wrote nothing
        assert (left.state, jobs.get(left.id).state) == (JobState.QUEUED, JobState.QUEUED)
        # long enough that a supervisor which waits for the lease of the dead never takes over
        jobs._table._rows("update job set lease_until=lease_until+1e6")
    with Store.open(root) as store, Jobs(store, worker_command=COUNTING) as jobs:
        last = jobs.wait(jobs.list()[0].id)
        assert jobs.submit(TrainSpec.from_dict(last.spec), request_id="once").id == last.id
    assert (last.state, last.attempt) == (JobState.SUCCEEDED, 2)
    steps = [int(line.split()[0]) for line in (root / "a.steps").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(60))


def test_the_queue_imports_neither_torch_nor_faiss() -> None:
    code = (
        "import sys, isogloss.service.jobs.supervisor, isogloss.service.processes.worker;"
        "sys.exit(bool({'torch', 'faiss', 'zarr', 'grpc', 'numba'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_worker_that_dies_at_once_is_not_started_again_before_its_pause(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "_BACKOFF_S", 1e6)
    with Jobs(store, worker_command=COUNTING) as jobs:
        job = jobs.submit(spec(mode="die"))
        until(
            lambda: (
                (now := jobs.get(job.id)).state.is_final
                or (now.attempt >= 1 and now.state is JobState.QUEUED)
            )
        )
        other = jobs.submit(spec("b", total=1))
        assert jobs.wait(other.id).state is JobState.SUCCEEDED, "the pause held up another job"
        assert (jobs.get(job.id).attempt, jobs.get(job.id).state) == (1, JobState.QUEUED)


def test_jobs_that_an_earlier_owner_left_are_named_when_they_go_on(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with Jobs(store, run_workers=False) as queue:
        left = queue.submit(spec(total=3)).id
    assert not caplog.records
    with Jobs(store, worker_command=COUNTING) as jobs:
        assert jobs.wait(left, 60).state is JobState.SUCCEEDED
    (said,) = [record.getMessage() for record in caplog.records if left in record.getMessage()]
    assert said.startswith(f"jobs that had not ended go on now: {left} (train, queued); ")
    assert "run_workers=False" in said
    caplog.clear()
    with Jobs(store, worker_command=COUNTING):
        assert not [record for record in caplog.records if "go on now" in record.getMessage()]


def test_who_lost_the_store_to_another_owner_starts_no_more_jobs(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fenced(self: worker_processes.Workers) -> None:
        raise Fenced("epoch 2 is newer")

    monkeypatch.setattr(worker_processes.Workers, "_turn", fenced)
    with Jobs(store, worker_command=COUNTING) as jobs:
        until(lambda: bool(caplog.records))
        jobs.submit(spec())
        time.sleep(0.1)
        assert jobs.list()[0].state is JobState.QUEUED
    (said,) = {record.getMessage() for record in caplog.records}
    assert said.endswith("have another owner: epoch 2 is newer")
