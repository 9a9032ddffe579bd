"""Calls about jobs, on a queue that nobody works off."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.longrunning import operations_pb2 as operations
from google.protobuf.duration_pb2 import Duration

from isogloss.errors import InvalidInput, InvalidName, NotFound
from isogloss.proto.v1 import jobs_pb2
from isogloss.service.calls import jobs as calls
from isogloss.service.calls.jobs import JobHandlers
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.results import SiteRef
from isogloss.service.wire.jobs import from_operation
from isogloss.store import Store


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Store.open(tmp_path / "store") as store, Jobs(store, run_workers=False) as jobs:
        for name in ("c", "a", "b"):
            jobs.submit(train(name))
        yield jobs


@pytest.fixture
def handlers(jobs: Jobs) -> JobHandlers:
    return JobHandlers(jobs)


def train(name: str) -> TrainSpec:
    return TrainSpec(dictionary=name, sources=(SiteRef(recording="r", site="s"),), config={})


def wait_for(job: str, seconds: float | None = None) -> operations.WaitOperationRequest:
    request = operations.WaitOperationRequest(name=f"operations/{job}")
    if seconds is not None:
        timeout = Duration()
        timeout.FromMicroseconds(round(seconds * 1e6))
        request.timeout.CopyFrom(timeout)
    return request


def test_a_job_is_got_by_its_name(jobs: Jobs, handlers: JobHandlers) -> None:
    job = jobs.list()[0]
    found = handlers.get_operation(operations.GetOperationRequest(name=f"operations/{job.id}"))
    assert (from_operation(found).name, from_operation(found).state) == (job.id, "QUEUED")
    assert found.name == f"operations/{job.id}"
    assert not found.done
    with pytest.raises(NotFound, match="train-lost"):
        handlers.get_operation(operations.GetOperationRequest(name="operations/train-lost"))
    with pytest.raises(InvalidName, match="operations/ID"):
        handlers.get_operation(operations.GetOperationRequest(name=job.id))


def test_jobs_are_listed_oldest_first_in_pages(jobs: Jobs, handlers: JobHandlers) -> None:
    wanted = [f"operations/{job.id}" for job in sorted(jobs.list(), key=lambda j: j.created)]
    found: list[str] = []
    token, pages = "", 0
    while pages == 0 or token:
        page = handlers.list_operations(
            operations.ListOperationsRequest(page_size=2, page_token=token)
        )
        found += [operation.name for operation in page.operations]
        token, pages = page.next_page_token, pages + 1
    assert found == wanted
    assert pages == 2
    whole = handlers.list_operations(operations.ListOperationsRequest(page_size=3))
    assert (len(whole.operations), whole.next_page_token) == (3, "")
    with pytest.raises(InvalidInput, match="filter 'done=true' is not supported: leave it empty"):
        handlers.list_operations(operations.ListOperationsRequest(filter="done=true"))


def test_waiting_ends_at_the_time_that_was_asked_for(jobs: Jobs, handlers: JobHandlers) -> None:
    job = jobs.list()[0].id
    begun = time.monotonic()
    assert not handlers.wait_operation(wait_for(job, 0)).done
    found = handlers.wait_operation(wait_for(job, 0.25))
    assert time.monotonic() - begun >= 0.25
    assert (found.name, found.done) == (f"operations/{job}", False)
    for asked_s, says in ((-1e-6, "-1e-06"), (-123456.6, "-123457"), (-123456.4, "-123456")):
        with pytest.raises(InvalidInput, match=f"timeout is {says} s, wanted 0 or more"):
            handlers.wait_operation(wait_for(job, asked_s))
    with pytest.raises(NotFound, match="lost"):
        handlers.wait_operation(wait_for("train-lost", 0))


@pytest.mark.parametrize("asked_s", [None, 1e6])
def test_waiting_ends_at_the_longest_time_whatever_was_asked_for(
    jobs: Jobs, handlers: JobHandlers, monkeypatch: pytest.MonkeyPatch, asked_s: float | None
) -> None:
    assert calls.MAX_WAIT_S == 10
    monkeypatch.setattr(calls, "MAX_WAIT_S", 0.125)
    begun = time.monotonic()
    assert not handlers.wait_operation(wait_for(jobs.list()[0].id, asked_s)).done
    assert time.monotonic() - begun >= 0.125


def test_waiting_lasts_as_long_as_was_asked_unless_the_job_ends(
    jobs: Jobs, handlers: JobHandlers
) -> None:
    """A time that was cut short would give the job while it is queued."""
    job = jobs.submit(train("ends-soon")).id
    ending = threading.Timer(0.3, jobs.cancel, [job])
    ending.start()
    found = from_operation(handlers.wait_operation(wait_for(job, 9.5)))
    ending.join()
    assert found.state == "CANCELLED"
    assert from_operation(handlers.wait_operation(wait_for(job, 0))).state == "CANCELLED"


def test_a_cancelled_job_ends_and_is_watched_to_its_end(jobs: Jobs, handlers: JobHandlers) -> None:
    job = jobs.submit(train("cancelled")).id
    watched = handlers.watch_job(jobs_pb2.WatchJobRequest(name=f"operations/{job}"))
    assert from_operation(next(watched).head).state == "QUEUED"
    handlers.cancel_operation(operations.CancelOperationRequest(name=f"operations/{job}"))
    assert [from_operation(answer.head).state for answer in watched] == ["CANCELLED"]
    with pytest.raises(NotFound, match="lost"):
        handlers.cancel_operation(operations.CancelOperationRequest(name="operations/lost"))
    with pytest.raises(NotFound, match="lost"):
        next(handlers.watch_job(jobs_pb2.WatchJobRequest(name="operations/lost")))
