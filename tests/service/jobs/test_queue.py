"""The table of jobs: attempts, fencing, stalls, back-off, and what earlier releases queued."""

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import AlreadyExists, Fenced, InvalidInput, StorageFull
from isogloss.service.jobs import queue
from isogloss.service.jobs.queue import JobTable
from isogloss.service.values.job_kinds import read_spec
from isogloss.service.values.job_specs import MatchSpec, ProbeSpec, TrainSpec
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.service.values.results import SiteRef
from isogloss.store import Store

SPEC = TrainSpec(dictionary="a", sources=(SiteRef(recording="r", site="s"),), config={})


@pytest.fixture
def table(tmp_path: Path) -> Iterator[JobTable]:
    with Store.open(tmp_path / "store") as store:
        table = JobTable(store.catalog.path)
        yield table
        table.close()


@pytest.fixture
def claimed(table: JobTable) -> JobRecord:
    table.submit(SPEC, "")
    claimed = table.claim(10)
    assert claimed is not None
    return claimed


def beat(table: JobTable, job: JobRecord, step: int = 0) -> JobState:
    return table.beat(job.id, job.attempt, lease_s=10, step=step, total_steps=9, metrics={})


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(queue, "now_s", clock.time)
    return clock


def pause_s(table: JobTable, clock: Clock) -> float:
    """Fail the next attempt at once, and return how long no other may begin."""
    job = table.claim(10)
    assert job is not None
    table.release(job.id, job.attempt, blame="it died", limit=9, backoff_s=2.0)
    ended = clock.now
    while table.get(job.id).state is JobState.QUEUED and not waiting(table):
        clock.now += 0.5
    return clock.now - ended


def waiting(table: JobTable) -> list[sqlite3.Row]:
    return table._rows("select id from job where not_before<=?", (queue.now_s(),))


def test_a_job_whose_worker_dies_at_once_is_tried_again_after_growing_pauses(
    table: JobTable, clock: Clock
) -> None:
    table.submit(SPEC, "")
    assert [pause_s(table, clock) for _ in range(4)] == [2.0, 6.0, 14.0, 30.0]


def test_nothing_is_claimed_before_its_pause_is_over(table: JobTable, clock: Clock) -> None:
    table.submit(SPEC, "")
    job = table.claim(10)
    assert job is not None
    table.release(job.id, job.attempt, blame="it died", limit=9, backoff_s=2.0)
    assert table.claim(10) is None
    clock.now += 1.99
    assert table.claim(10) is None
    clock.now += 0.01
    again = table.claim(10)
    assert again is not None
    assert again.attempt == 2


def test_a_worker_that_got_on_is_followed_by_another_at_once(table: JobTable, clock: Clock) -> None:
    table.submit(SPEC, "")
    assert pause_s(table, clock) == 2.0
    job = table.claim(10)
    assert job is not None
    beat(table, job, step=1)
    table.release(job.id, job.attempt, blame="it died", limit=9, backoff_s=2.0)
    assert table.claim(10) is not None


@pytest.mark.parametrize("step_s", [-1e9, -3600.0, 3600.0, 1e9])
def test_a_step_of_the_wall_clock_ends_no_lease_and_no_pause(
    table: JobTable, claimed: JobRecord, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    now = time.time()
    monkeypatch.setattr(queue.time, "time", lambda: now + step_s)
    assert [held.is_late for held in table.held()] == [False]
    assert beat(table, claimed) is JobState.RUNNING
    assert [held.is_late for held in table.held()] == [False]
    table.release(claimed.id, claimed.attempt, blame="it died", limit=9, backoff_s=3600.0)
    assert table.claim(10) is None
    table._rows("update job set not_before=0")
    assert table.claim(10) is not None


def test_a_lease_ends_with_its_time_and_with_the_start_of_the_machine_that_gave_it(
    table: JobTable, clock: Clock, claimed: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(table, claimed)
    clock.now += 10
    assert [held.is_late for held in table.held()] == [False]
    clock.now += 1
    assert [held.is_late for held in table.held()] == [True]
    beat(table, claimed)
    assert [held.is_late for held in table.held()] == [False]
    table.release(claimed.id, claimed.attempt, blame="", limit=9, backoff_s=0.0)
    table._rows("update job set not_before=1e9")  # of a machine that had run for years
    assert table.claim(10) is None
    monkeypatch.setattr(queue, "boot", lambda: "another start")
    again = table.claim(10)
    assert again is not None
    monkeypatch.setattr(queue, "boot", lambda: "a third one")
    assert [held.is_late for held in table.held()] == [True]


def test_a_table_of_an_earlier_release_gets_its_boots_and_its_leases_have_ended(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.sqlite"
    JobTable(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("alter table job drop column boot")
    connection.close()
    table = JobTable(path)
    table.submit(SPEC, "")
    assert table.claim(10) is not None
    table._rows("update job set lease_until=1e12, boot=''")
    assert [held.is_late for held in table.held()] == [True]
    table.close()


@pytest.mark.parametrize(
    ("kind", "queued"),
    [
        ("train", {"dictionary": "a", "recording": "r", "site": "s", "config": {"features": 8}}),
        ("probe", {"probe": "a", "recordings": ["r"], "dictionaries": []}),
        ("probe", {"probe": "a", "recordings": [], "dictionaries": ["d"], "holdout": 0.125}),
        ("probe", {"probe": "a", "recordings": [], "dictionaries": [], "grid": "word_ends"}),
        ("match", {"match": "a", "a": "x", "b": "y", "probe": None, "settings": {"draws": 2}}),
        ("match", {"match": "a", "a": "x", "b": "y"}),
    ],
)
def test_jobs_that_earlier_releases_queued_are_claimed_and_read(
    table: JobTable, kind: str, queued: dict[str, object]
) -> None:
    table._rows(
        "insert into job(id, kind, spec, target, request_id, state, created, updated)"
        " values('old', ?, ?, ?, 'once', 'QUEUED', 1, 1)",
        (kind, json.dumps(queued, sort_keys=True), f"{kind}/a"),
    )
    spec = read_spec(kind, queued)
    assert table.submit(spec, "once").id == "old", "the same request made a second job"
    assert table.submit(spec, "").id == "old", "the same work was queued twice"
    claimed = table.claim(10)
    assert claimed is not None
    assert claimed.spec == queued
    assert read_spec(claimed.kind, claimed.spec) == spec


def test_a_queued_job_has_the_json_that_earlier_releases_wrote(table: JobTable) -> None:
    train = TrainSpec(dictionary="a", sources=(SiteRef(recording="r", site="s"),), config={"k": 2})
    probe = ProbeSpec(probe="p", recordings=("r",), dictionaries=(), holdout=0.5)
    match = MatchSpec(match="m", a="x", b="y", settings={"draws": 2})
    for spec in (train, probe, match):
        table.submit(spec, "")
    assert [row["spec"] for row in table._rows("select spec from job order by number")] == [
        '{"config": {"k": 2}, "dictionary": "a", "recording": "r", "site": "s"}',
        '{"dictionaries": [], "holdout": 0.5, "probe": "p", "recordings": ["r"]}',
        '{"a": "x", "b": "y", "match": "m", "probe": null, "settings": {"draws": 2}}',
    ]


def test_a_spec_of_no_kind_is_refused(table: JobTable) -> None:
    class Stranger(TrainSpec):
        pass

    with pytest.raises(InvalidInput, match="use one of TrainSpec, ProbeSpec, MatchSpec"):
        table.submit(
            Stranger(dictionary="a", sources=(SiteRef(recording="r", site="s"),), config={}), ""
        )


def test_different_work_under_one_name_is_refused(table: JobTable) -> None:
    table.submit(SPEC, "")
    other = TrainSpec(dictionary="a", sources=(SiteRef(recording="other", site="s"),), config={})
    with pytest.raises(AlreadyExists, match="'train/a' is being made by"):
        table.submit(other, "")


def test_a_job_whose_spec_cannot_be_read_any_more_is_not_the_same_work(table: JobTable) -> None:
    job = table.submit(SPEC, "")
    table._rows("update job set spec='{}' where id=?", (job.id,))
    with pytest.raises(AlreadyExists, match="'train/a' is being made by"):
        table.submit(SPEC, "")


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
    table.submit(SPEC, "")
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


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), object()], ids=["nan", "inf", "an object"]
)
def test_a_spec_that_json_does_not_hold_is_refused_and_nothing_is_queued(
    table: JobTable, value: object
) -> None:
    spec = MatchSpec(match="m", a="a", b="b", settings={"min_r": value})
    with pytest.raises(InvalidInput, match="the spec of a match job must be plain JSON"):
        table.submit(spec, "")
    assert table.all() == []


@pytest.mark.parametrize("has_reserve", [True, False])
def test_on_a_full_disk_a_job_is_cancelled_by_the_reserve_of_the_store(
    table: JobTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_reserve: bool
) -> None:
    """The disk has room again when the reserve is gone."""
    job = table.submit(SPEC, "")
    reserve = table._path.parent / ".reserve"
    if has_reserve:
        reserve.write_bytes(b"x")
    cancel = table._cancel

    def on_a_full_disk(name: str) -> None:
        if reserve.exists() or not has_reserve:
            raise StorageFull("no room")
        cancel(name)

    monkeypatch.setattr(table, "_cancel", on_a_full_disk)
    if has_reserve:
        assert table.cancel(job.id).state is JobState.CANCELLED
        assert not reserve.exists()
    else:
        with pytest.raises(StorageFull, match="no room"):
            table.cancel(job.id)
