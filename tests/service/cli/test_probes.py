"""Commands for probes, on a store of this process."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.service.cli.flags import flags_on
from typer.testing import CliRunner

from isogloss.errors import InvalidInput, NotFound
from isogloss.service.cli.main import app
from isogloss.service.jobs.queue import JobTable
from isogloss.store import Store
from isogloss.store.testing import sample_batch, sample_spec


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "store"):
        pass
    return tmp_path / "store"


def run(*words: str) -> str:
    ended = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_a_store_without_probes_says_so(store: Path) -> None:
    assert "no probes yet" in run("probes", "--store", str(store))
    assert json.loads(run("probes", "--store", str(store), "--json")) == []


def test_a_probe_of_a_recording_that_is_not_there_is_refused(store: Path) -> None:
    with pytest.raises(NotFound, match="lost"):
        run("probe", "lost", "--store", str(store), "--detach")


def test_a_probe_needs_a_recording(store: Path) -> None:
    ended = CliRunner().invoke(app, ["probe", "--store", str(store)])
    assert ended.exit_code == 2


def test_the_steps_that_commands_name_are_those_of_the_job(store: Path) -> None:
    with Store.open(store) as opened:
        spec = sample_spec()
        recording = opened.create_recording(spec, ["a"])
        with recording.open_lane() as lane:
            batches = [sample_batch(spec, "p", sequence) for sequence in (1, 2)]
            lane.append([replace(b, step=10 * b.sequence) for b in batches])
    words = ["--detach", "--store", str(store), "--json"]
    train = ["train", spec.recording, "--site", "layer.2", "--features", "8", "--k", "2"]
    with pytest.raises(InvalidInput, match=r"rows of 2 training steps .*--steps 20"):
        run(*train, *words)
    rest = ["--batch-rows", "64", "--holdout", "0.05", *words]
    run(*train, "--steps", "20", "--steps", "10", *rest)
    run("probe", spec.recording, "--steps", "10", *words)
    with Store.open(store) as opened:
        table = JobTable.of(opened)
        found = {record.kind: record.spec for record in table.all()}
        table.close()
    assert found["train"]["config"] == {
        "settings": {"features": 8, "k": 2},
        "steps": [10, 20],
        "batch_rows": 64,
        "holdout": 0.05,
    }
    assert found["probe"]["steps"] == [10]


def test_probes_are_built_while_one_waits_and_told_as_text_unless_asked_otherwise() -> None:
    assert not {flag for flag in flags_on() if flag.startswith(("probe ", "probes "))}
