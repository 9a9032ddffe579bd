"""A kind of job that is added from outside: one row and one file, and everything else follows."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.jobs.toy_kind import WITH_TOY, ToySpec

from isogloss.errors import Conflict, InvalidInput
from isogloss.service.calls.all import EngineHandlers
from isogloss.service.client.client import Client
from isogloss.service.control.deleting import check_unused
from isogloss.service.control.owner import Owner
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.transport.in_process import LocalTransport
from isogloss.service.values import job_kinds
from isogloss.service.values.job_kinds import read_spec
from isogloss.service.values.jobs import JobState
from isogloss.store import Store

WORKER = (sys.executable, str(Path(__file__).with_name("toy_kind.py")))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store in a process whose table of kinds has one row more."""
    monkeypatch.setattr(job_kinds, "JOB_KINDS", WITH_TOY)
    with Store.open(tmp_path / "store") as store:
        yield store


def test_a_job_of_a_new_kind_runs_in_a_worker_and_a_client_gets_what_it_made(store: Store) -> None:
    owner = Owner(store, run_workers=False)
    with (
        Client(LocalTransport(EngineHandlers(owner), "toys")) as client,
        Jobs(store, worker_command=WORKER) as jobs,
    ):
        job = jobs.submit(ToySpec(name="made", steps=7))
        assert job.id.startswith("toy-")
        last = jobs.wait(job.id)
        assert (last.state, last.error, last.step) == (JobState.SUCCEEDED, None, 7)
        assert last.result == {"probe": "made"}
        handle = client.job(job.id)
        made = handle.result()
        assert (handle.kind, made.id) == ("toy", "made")
        assert made == client.probe("made")


def test_what_a_new_kind_reads_and_makes_cannot_be_deleted_under_it(store: Store) -> None:
    with Jobs(store, run_workers=False) as jobs:
        jobs.submit(ToySpec(name="made", steps=1))
        for kind in ("recording", "probe"):
            with pytest.raises(Conflict, match="is used by job 'toy-"):
                check_unused(jobs, kind, "made")
            check_unused(jobs, kind, "other")
        check_unused(jobs, "dictionary", "made")


def test_the_new_kind_is_refused_where_the_table_lacks_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Jobs(store, run_workers=False) as jobs:
        queued = jobs.submit(ToySpec(name="made", steps=1))
        monkeypatch.undo()
        with pytest.raises(InvalidInput, match="ToySpec is no spec of a job"):
            jobs.submit(ToySpec(name="other", steps=1))
        with pytest.raises(InvalidInput, match="job kind 'toy' is unknown"):
            read_spec(queued.kind, queued.spec)
