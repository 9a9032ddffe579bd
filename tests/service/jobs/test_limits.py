"""How many jobs run, with how much memory, for how long, and whose turn it is."""

import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import InvalidInput, NotFound, ResourceExhausted
from isogloss.service.jobs import queue
from isogloss.service.jobs import workers as worker_processes
from isogloss.service.jobs.limits import JobLimits, JobNeeds
from isogloss.service.jobs.processes import LEASE_S
from isogloss.service.jobs.queue import JobTable
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.job_specs import MatchSpec, ProbeSpec, TrainSpec
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.service.values.results import SiteRef
from isogloss.store import Store

COUNTING = (sys.executable, str(Path(__file__).with_name("counting_worker.py")))


def spec(dictionary: str, **config: object) -> TrainSpec:
    sources = (SiteRef(recording="r", site="s"),)
    return TrainSpec(dictionary=dictionary, sources=sources, config=config)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


@pytest.fixture
def table(store: Store) -> Iterator[JobTable]:
    table = JobTable(store.catalog.path)
    yield table
    table.close()


def submit(table: JobTable, name: str, client: str = "", gib: int = 0) -> JobRecord:
    return table.submit(spec(name), "", JobNeeds(client=client, memory_bytes=gib << 30))


def take(table: JobTable, at_a_time: int = 9, gib: int = 8) -> str:
    """Claim a job and return the name of what it makes; empty where none may run."""
    found = table.claim(10, at_a_time=at_a_time, budget_bytes=gib << 30)
    return "" if found is None else str(found.spec["dictionary"])


def end(table: JobTable, name: str) -> None:
    job = next(j for j in table.all() if j.spec["dictionary"] == name)
    table.finish(job.id, job.attempt, JobState.SUCCEEDED, result={"dictionary": name})


def test_a_client_with_a_hundred_jobs_makes_another_wait_for_one(table: JobTable) -> None:
    for number in range(100):
        submit(table, f"a{number}", "greedy")
    assert take(table, at_a_time=1) == "a0"
    submit(table, "b0", "other")
    submit(table, "b1", "other")
    submit(table, "c0", "third")
    order: list[str] = []
    running = "a0"
    for _ in range(6):
        assert take(table, at_a_time=1) == "", "one runs already"
        end(table, running)
        running = take(table, at_a_time=1)
        order.append(running)
    assert order == ["b0", "c0", "a1", "b1", "a2", "a3"]


def test_jobs_run_beside_one_another_as_far_as_memory_goes_and_none_is_overtaken(
    table: JobTable,
) -> None:
    for name, gib in (("a", 5), ("b", 2), ("large", 7), ("small", 1)):
        submit(table, name, gib=gib)
    assert [take(table), take(table), take(table)] == ["a", "b", ""]
    end(table, "a")
    assert take(table) == "", "the small job overtook the large one"
    end(table, "b")
    assert [take(table), take(table), take(table)] == ["large", "small", ""]


def test_a_job_that_fits_no_more_fails_with_numbers_and_the_next_one_runs(table: JobTable) -> None:
    large, _ = submit(table, "large", gib=9), submit(table, "small", gib=1)
    assert take(table, gib=8) == "small"
    failed = table.get(large.id)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error[0] == "RESOURCE_EXHAUSTED"
    assert "needs at least 9.0 GiB of memory, and all jobs together may have 8.0" in failed.error[1]


def test_jobs_that_change_the_same_probes_run_one_after_the_other(table: JobTable) -> None:
    table.submit(ProbeSpec(probe="p", recordings=("r",), dictionaries=()), "")
    table.submit(MatchSpec(match="m", a="x", b="y"), "")
    submit(table, "a")
    kinds = [found.kind for _ in range(3) if (found := table.claim(10)) is not None]
    assert kinds == ["probe", "train"]
    job = next(job for job in table.all() if job.kind == "probe")
    table.finish(job.id, job.attempt, JobState.SUCCEEDED, result={"probe": "p"})
    found = table.claim(10)
    assert found is not None
    assert found.kind == "match"


def test_a_job_that_can_never_fit_and_one_too_many_are_refused_at_submit(store: Store) -> None:
    limits = JobLimits(memory_bytes=2 << 30, waiting=2)
    with Jobs(store, run_workers=False, limits=limits) as jobs:
        with pytest.raises(ResourceExhausted, match=r"needs at least 3\.0 GiB .* may have 2\.0"):
            jobs.submit(spec("a"), needs=JobNeeds(memory_bytes=3 << 30))
        assert jobs.list() == []
        for name in "ab":
            jobs.submit(spec(name), needs=JobNeeds(client="x"))
        with pytest.raises(ResourceExhausted, match="2 jobs from x have not ended"):
            jobs.submit(spec("c"), needs=JobNeeds(client="x"))
        assert jobs.submit(spec("a"), needs=JobNeeds(client="x")).spec["dictionary"] == "a"
        jobs.submit(spec("c"), needs=JobNeeds(client="y"))
        jobs.cancel(jobs.list()[0].id)
        jobs.submit(spec("d"), needs=JobNeeds(client="x"))


@pytest.mark.parametrize("time_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_limit_that_is_none_is_refused(time_s: float) -> None:
    with pytest.raises(InvalidInput, match="time limit of the job is"):
        JobNeeds(time_s=time_s)
    with pytest.raises(InvalidInput, match="limit time_s of jobs is"):
        JobLimits(time_s=time_s)


def test_the_time_that_a_job_runs_counts_over_its_attempts_and_not_while_it_waits(
    table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(queue, "now_s", lambda: clock[0])
    submit(table, "a")
    for seconds in (3.0, 4.0):
        job = table.claim(10)
        assert job is not None
        for _ in range(2):
            clock[0] += seconds
            table.beat(job.id, job.attempt, lease_s=10, step=1, total_steps=9, metrics={})
        table.release(job.id, job.attempt, blame="", limit=5, backoff_s=0)
        clock[0] += 500
    job = table.claim(10)
    assert job is not None
    clock[0] += 5
    table.beat(job.id, job.attempt, lease_s=10, step=0, total_steps=9, metrics={}, counts=False)
    clock[0] += 1e6  # asleep: counts as long as a lease
    table.beat(job.id, job.attempt, lease_s=10, step=1, total_steps=9, metrics={})
    assert [held.ran_s for held in table.held()] == [pytest.approx(3 + 3 + 4 + 4 + 10)]


@pytest.mark.parametrize(("asked_s", "cap_s"), [(0.2, 1e6), (None, 0.2), (1e6, 0.2)])
def test_a_job_that_runs_longer_than_it_may_ends_with_its_cause(
    store: Store, asked_s: float | None, cap_s: float
) -> None:
    limits = JobLimits(time_s=cap_s)
    with Jobs(store, worker_command=COUNTING, limits=limits) as jobs:
        wanted = spec("a", total=100_000, pause_s=0.01)
        job = jobs.wait(jobs.submit(wanted, needs=JobNeeds(time_s=asked_s)).id)
        assert (job.state, job.attempt) == (JobState.FAILED, 1)
        assert job.error is not None
        assert job.error[0] == "DEADLINE_EXCEEDED"
        assert "its limit is 0 s" in job.error[1]
        assert "submit it again to go on from its checkpoint" in job.error[1]


def test_a_job_is_not_charged_for_a_worker_that_loads(store: Store) -> None:
    loads_s = LEASE_S / 5 + 1  # so that its heart beats meanwhile
    with Jobs(store, worker_command=(*COUNTING, str(loads_s))) as jobs:
        asked = JobNeeds(time_s=loads_s / 2)
        job = jobs.wait(jobs.submit(spec("a", total=3), needs=asked).id)
        assert (job.state, job.attempt, job.error) == (JobState.SUCCEEDED, 1, None)


def test_several_jobs_run_at_a_time_and_end_with_their_owner(store: Store) -> None:
    limits = JobLimits(workers=3, memory_bytes=1 << 40)
    with Jobs(store, worker_command=COUNTING, limits=limits) as jobs:
        names = "abcd"
        made = [jobs.submit(spec(name, total=100_000, pause_s=0.01)).id for name in names]
        while sum(jobs.get(job).step > 0 for job in made) < 3:
            time.sleep(0.02)
        assert jobs.get(made[3]).state is JobState.QUEUED
        jobs.cancel(made[0])
        while jobs.get(made[3]).step == 0:
            time.sleep(0.02)
    table = JobTable(store.catalog.path)
    states = [table.get(job).state for job in made]
    table.close()
    assert states == [JobState.CANCELLED, *[JobState.QUEUED] * 3]


def test_jobs_that_ended_are_forgotten_by_age_and_number_and_others_never(table: JobTable) -> None:
    for name in "abcdef":
        submit(table, name)
    for name in "abcd":
        assert take(table) == name
        end(table, name)
    assert take(table) == "e"
    table._rows("update job set updated = updated - 1000 where spec like '%\"a\"%'")
    table._rows("update job set updated = updated - 1e9 where state in ('QUEUED', 'STARTING')")
    assert len(table.forget(900, 10)) == 1
    assert len(table.forget(900, 2)) == 1
    assert [job.spec["dictionary"] for job in table.all()] == ["c", "d", "e", "f"]
    assert table.forget(900, 2) == []


def test_the_log_of_a_job_goes_with_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "_FORGET_S", 0.0)
    with Jobs(store, worker_command=COUNTING, limits=JobLimits(keep=1)) as jobs:
        first = jobs.wait(jobs.submit(spec("a", total=1)).id)
        second = jobs.wait(jobs.submit(spec("b", total=1)).id)
        while len(jobs.list()) > 1:
            time.sleep(0.02)
        with pytest.raises(NotFound, match="forgotten after a while"):
            jobs.get(first.id)
        assert jobs.get(second.id).state is JobState.SUCCEEDED
        logs = store.root / "jobs"
        while [path.stem for path in logs.glob("*.log")] != [second.id]:
            time.sleep(0.02)


def test_a_queue_of_the_first_release_gets_its_columns_and_runs_its_jobs(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    first = JobTable(path)
    first.submit(spec("a"), "")
    first.close()
    with sqlite3.connect(path) as connection:
        for column in ("boot", "client", "turn", "memory", "limit_s", "ran_s"):
            connection.execute(f"alter table job drop column {column}")
    connection.close()
    table = JobTable(path)
    submit(table, "b", "other", gib=1)
    assert [take(table), take(table)] == ["a", "b"]
    table.close()


@pytest.mark.parametrize("name", ["workers", "memory_bytes", "waiting", "keep", "keep_s"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"limit {name} of jobs is 0, wanted a number above 0"):
        JobLimits(**{name: 0})
    assert 1 <= JobLimits().at_a_time <= 4
    assert JobLimits().budget_bytes > 1 << 20
