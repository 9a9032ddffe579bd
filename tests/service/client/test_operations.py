"""What is asked about a job, against planned answers: waiting, watching, and how each ends."""

from collections.abc import Iterator

import pytest
from google.longrunning import operations_pb2 as operations
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from tests.service.transport.planned import Planned

from isogloss.errors import (
    DeadlineExceeded,
    InvalidName,
    JobCancelled,
    JobFailed,
    NotFound,
    ServerUnavailable,
)
from isogloss.proto.v1 import jobs_pb2
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.client import operations as calls
from isogloss.service.jobs.queue import JobTable
from isogloss.service.transport.call import Ask, Call, Open, Pause, ask, then
from isogloss.service.transport.run import iterate, run
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.service.values.results import SiteRef
from isogloss.service.wire.jobs import to_job, to_operation
from isogloss.store import Store


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, JobRecord]]:
    """One job in each of the states in which it can be found."""
    with Store.open(tmp_path_factory.mktemp("operations") / "store") as store:
        table = JobTable.of(store)
        found: dict[str, JobRecord] = {}
        for name in ("succeeded", "failed", "cancelled"):
            spec = TrainSpec(
                dictionary=name, sources=(SiteRef(recording="r", site="s"),), config={}
            )
            job = table.submit(spec, "")
            found["queued"] = job
            claimed = table.claim(30)
            assert claimed is not None
            if name == "succeeded":
                result: dict[str, object] = {"dictionary": name}
                table.finish(job.id, claimed.attempt, JobState.SUCCEEDED, result=result)
            elif name == "failed":
                error = ("STORAGE_FULL", "no space is left")
                table.finish(job.id, claimed.attempt, JobState.FAILED, error=error)
            else:
                table.cancel(job.id)
                table.finish(job.id, claimed.attempt, JobState.CANCELLED)
            found[name] = table.get(job.id)
        table.close()
        yield found


def operation(record: JobRecord) -> operations.Operation:
    return to_operation(to_job(record))


def test_waiting_goes_on_until_the_job_is_done(records: dict[str, JobRecord]) -> None:
    queued, done = operation(records["queued"]), operation(records["succeeded"])
    transport = Planned(queued, queued, done)
    assert run(transport, calls.wait("j", None), 1).state == "SUCCEEDED"
    assert transport.asked == ["WaitOperation 11"] * 3, "the server may take 10 s more"


def test_waiting_asks_the_server_for_no_longer_than_is_left() -> None:
    step = next(calls.wait("j", 2.5))
    assert isinstance(step, Ask)
    assert isinstance(step.request, operations.WaitOperationRequest)
    assert step.request.name == "operations/j"
    microseconds = step.request.timeout.ToMicroseconds()
    assert 2e6 < microseconds <= 2.5e6
    assert step.extra_s == pytest.approx(microseconds / 1e6, abs=1e-6)
    endless = next(calls.wait("j", None))
    assert isinstance(endless, Ask)
    assert endless.extra_s == 10


def test_waiting_ends_at_its_deadline(records: dict[str, JobRecord]) -> None:
    for timeout_s in (0.0, -1.0):
        transport = Planned()
        with pytest.raises(
            DeadlineExceeded, match=f"'j' was not done after {timeout_s:g} s; it go"
        ):
            run(transport, calls.wait("j", timeout_s), 1)
        assert transport.asked == []
    with pytest.raises(InvalidName, match="'J'"):
        run(Planned(), calls.wait("J", 1), 1)


def test_how_a_job_ended_badly_is_raised(records: dict[str, JobRecord]) -> None:
    with pytest.raises(JobCancelled, match="'j' was cancelled; submit it again"):
        run(Planned(operation(records["cancelled"])), calls.wait("j", None), 1)
    with pytest.raises(JobFailed, match=r"'j' failed \(STORAGE_FULL\): no space is left"):
        run(Planned(operation(records["failed"])), calls.wait("j", None), 1)


def test_waiting_outlasts_a_server_that_is_away(records: dict[str, JobRecord]) -> None:
    away = ServerUnavailable("away")
    transport = Planned(away, away, operation(records["succeeded"]))
    assert run(transport, calls.wait("j", None), 1).is_done
    steps = calls.wait("j", None)
    next(steps)
    pause = steps.throw(away)
    assert isinstance(pause, Pause)
    assert pause.seconds > 0
    with pytest.raises(NotFound):
        run(Planned(NotFound("gone")), calls.wait("j", None), 1)


def test_a_result_is_fetched_by_the_id_of_what_was_made(records: dict[str, JobRecord]) -> None:
    fetched: list[str] = []

    def fetch(name: str) -> Call[str]:
        fetched.append(name)
        return then(ask(pb.GetStorageRequest(), pb.Storage), lambda found: found.root)

    done = operation(records["succeeded"])
    job = calls.started("dictionaries", fetch)(done)
    assert (job.name, job.kind) == (records["succeeded"].id, "train")
    answers: tuple[Message, ...] = (done, pb.Storage(root="made"))
    assert run(Planned(*answers), calls.result(job, None), 1) == "made"
    assert fetched == ["succeeded"]


def test_a_job_is_got_and_cancelled_by_its_name(records: dict[str, JobRecord]) -> None:
    found = run(Planned(operation(records["queued"])), calls.get_job("j"), 1)
    assert (found.name, found.state) == (records["queued"].id, "QUEUED")
    transport = Planned(Empty())
    run(transport, calls.cancel("j"), 1)
    assert transport.asked == ["CancelOperation 1"]
    step = next(calls.cancel("j"))
    assert isinstance(step, Ask)
    assert step.request == operations.CancelOperationRequest(name="operations/j")


def test_a_job_is_watched_to_its_end_and_no_further(records: dict[str, JobRecord]) -> None:
    queued, done = operation(records["queued"]), operation(records["succeeded"])
    transport = Planned(queued, ServerUnavailable("away"), queued, done, queued)
    states = [info.state for info in iterate(transport, calls.watch("j"), 1)]
    assert states == ["QUEUED", "QUEUED", "SUCCEEDED"]
    assert transport.asked == ["WatchJob", "WatchJob"]
    assert transport.open_streams == 0
    with pytest.raises(NotFound):
        list(iterate(Planned(NotFound("gone")), calls.watch("j"), 1))


def test_a_stream_that_ends_early_is_opened_again_after_a_pause() -> None:
    steps = calls.watch("j")
    opened = next(steps)
    assert isinstance(opened, Open)
    assert opened.request == jobs_pb2.WatchJobRequest(name="operations/j")
    steps.send(None)
    pause = steps.send(None)
    assert isinstance(pause, Pause)
    assert next(steps) == opened
