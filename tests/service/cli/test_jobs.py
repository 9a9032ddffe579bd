"""What is said of a job that a command began and does not wait for any more."""

import json
from pathlib import Path

import pytest
from tests.service import planted

import isogloss
from isogloss.service.cli.jobs import _left, outcome, watch
from isogloss.service.cli.main import app
from isogloss.service.client.job import Job
from isogloss.service.jobs.queue import JobTable
from isogloss.service.values.jobs import JobState
from isogloss.store import Store


def test_ctrl_c_says_what_becomes_of_the_job_and_how_to_go_on_or_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(tmp_path / "store") as store:
        planted.record(store, "small-docs", seed=1)

    def interrupted(job: Job[object]) -> None:
        raise KeyboardInterrupt

    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        job = client.train("small-docs", site="layer.1", features=8, k=2)
        assert outcome(client, job, detach=True, is_json=False) is None
        assert "nobody serves this store" in capsys.readouterr().out
        monkeypatch.setattr(Job, "progress", interrupted)
        with pytest.raises(KeyboardInterrupt):
            watch(client, job, is_json=True)
    said = capsys.readouterr().err
    assert said == f"ending the worker of job {job.name}\n{_left(job.name, is_local=True)}\n"
    for text in (
        "is queued, and nobody runs it",
        f"`isogloss jobs {job.name} --wait`",
        "--cancel` ends it",
    ):
        assert text in said
    at_server = _left(job.name, is_local=False)
    assert "goes on at the server" in at_server
    assert f"isogloss jobs {job.name} --cancel" in at_server


def test_a_job_that_is_not_waited_for_is_told_as_it_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(tmp_path / "store") as store:
        planted.record(store, "small-docs", seed=1)
    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        job = client.train("small-docs", site="layer.1", features=8, k=2)
        assert outcome(client, job, detach=True, is_json=True) is None
    assert json.loads(capsys.readouterr().out)["name"] == job.name


def test_the_list_of_jobs_says_why_one_failed_and_how_long_it_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(tmp_path / "store") as store:
        planted.record(store, "small-docs", seed=1)
    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        client.train("small-docs", site="layer.1", features=8, k=2)
    with Store.open(tmp_path / "store") as store:
        table = JobTable.of(store)
        claimed = table.claim(30)
        assert claimed is not None
        table.finish(
            claimed.id, claimed.attempt, JobState.FAILED, error=("NON_FINITE_ROWS", "all NaN")
        )
        table.close()
    with pytest.raises(SystemExit):
        app(["jobs", "--store", str(tmp_path / "store")])
    assert "NON_FINITE_ROWS: all NaN" in capsys.readouterr().out.replace("\n", " ")
