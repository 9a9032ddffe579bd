"""Settings of a kind as they are written in a command, and the list of kinds."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isogloss.errors import InvalidInput
from isogloss.service.cli.kinds import read_settings
from isogloss.service.cli.main import app
from isogloss.store import Store


def test_a_setting_is_json_or_else_text() -> None:
    given = ["l1=0.02", "steps=3", "fast=true", "name=relu", "path=a=b", "of=[1, 2]", "none=null"]
    assert read_settings(given) == {
        "l1": 0.02,
        "steps": 3,
        "fast": True,
        "name": "relu",
        "path": "a=b",
        "of": [1, 2],
        "none": None,
    }


@pytest.mark.parametrize("given", [["l1"], ["=3"], ["l1=1", "l1=2"]])
def test_what_is_no_setting_is_refused(given: list[str]) -> None:
    with pytest.raises(InvalidInput, match="--set"):
        read_settings(given)


def test_kinds_are_listed_for_people_and_for_programs(tmp_path: Path) -> None:
    Store.open(tmp_path / "store").close()
    store = ["--store", str(tmp_path / "store")]
    shown = CliRunner().invoke(app, ["kinds", *store], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "topk" in shown.stdout
    assert "k=32" in shown.stdout
    assert "wirings: crosscoder, sae, transcoder" in shown.stdout
    listed = json.loads(CliRunner().invoke(app, ["kinds", *store, "--json"]).stdout)
    (kind,) = [kind for kind in listed["kinds"] if kind["is_default"]]
    assert kind["schema"]["properties"]["k"]["minimum"] == 1
    assert listed["wirings"] == ["crosscoder", "sae", "transcoder"]
