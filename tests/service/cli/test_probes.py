"""Commands for probes, on a store of this process."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isogloss.errors import NotFound
from isogloss.service.cli.main import app
from isogloss.store import Store


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
