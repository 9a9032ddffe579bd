"""The heart of a worker: its lease, its reports, the cancel, and what is fixed for all attempts."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import JobCancelled
from isogloss.service.jobs.queue import JobTable
from isogloss.service.tasks import heart as heart_of_a_worker
from isogloss.service.tasks.heart import Heart
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.results import SiteRef
from isogloss.store import Store


@pytest.fixture
def table(tmp_path: Path) -> Iterator[JobTable]:
    with Store.open(tmp_path / "store") as store:
        table = JobTable(store.catalog.path)
        yield table
        table.close()


@pytest.fixture
def claimed(table: JobTable) -> JobRecord:
    table.submit(
        TrainSpec(dictionary="a", sources=(SiteRef(recording="r", site="s"),), config={}), ""
    )
    claimed = table.claim(10)
    assert claimed is not None
    return claimed


def test_a_heart_reports_progress_and_brings_the_cancel(
    table: JobTable, claimed: JobRecord
) -> None:
    heart = Heart(table, claimed, on_fenced=lambda: None)
    heart.check()
    heart.progress(4, 9, {"fvu": 0.25})
    while table.get(claimed.id).step != 4:
        time.sleep(0.02)
    assert table.get(claimed.id).metrics == {"fvu": 0.25}
    table.cancel(claimed.id)
    while not heart.should_stop():
        time.sleep(0.01)
    assert heart.is_cancelled
    with pytest.raises(JobCancelled, match="submit it again"):
        heart.check()
    heart.progress(5, 9, {})
    heart.close()
    assert table.get(claimed.id).step == 5


def _beats(table: JobTable, job: JobRecord) -> float:
    """Wait for the next heartbeat; return for how long the job ran by it."""
    _, before = table.read(job.id)
    while table.read(job.id)[1] == before:
        time.sleep(0.02)
    return table.held()[0].ran_s


def test_time_counts_once_the_task_has_begun(table: JobTable, claimed: JobRecord) -> None:
    heart = Heart(table, claimed, on_fenced=lambda: None)
    for step in (1, 2):
        heart.progress(step, 9, {})
        assert _beats(table, claimed) == 0
    heart.begin()
    while not heart._counts:
        time.sleep(0.02)
    for step in (3, 4):
        heart.progress(step, 9, {})
        assert _beats(table, claimed) > 0
    heart.close()


def test_a_worker_that_loads_without_end_is_charged_after_a_while(
    table: JobTable, claimed: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heart_of_a_worker, "_LOADING_S", 0.0)
    heart = Heart(table, claimed, on_fenced=lambda: None)
    heart.progress(1, 9, {})
    assert _beats(table, claimed) > 0
    heart.close()


def test_a_heart_that_is_fenced_says_so(table: JobTable, claimed: JobRecord) -> None:
    fenced = threading.Event()
    heart = Heart(table, claimed, on_fenced=fenced.set)
    table.release(claimed.id, claimed.attempt, blame="", limit=5, backoff_s=0)
    assert fenced.wait(60)
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
