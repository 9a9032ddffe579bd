"""A client alone: nothing that only a store, a model or training needs is loaded on the way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.service.serving import server_on

SCRIPT = Path(__file__).parents[1] / "thin_client.py"


def use(address: str, *options: str, python: str = sys.executable) -> dict[str, bool]:
    done = subprocess.run(
        [python, str(SCRIPT), address, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["heavy"] == []
    return found["said"]


def test_a_client_and_its_command_line_load_nothing_heavy(tmp_path: Path) -> None:
    with server_on(tmp_path / "store") as server:
        said = use(server.addresses[0])
    assert {"verified", "described", "record", "record_documents", "dictionary"} <= said.keys()
    assert "report command" in said
    told = {f"isogloss.service.{name}" for name in ("Recorder", "serve")}
    told |= {f"isogloss.models.{name}" for name in ("LoadedModel", "capture", "load_model")}
    assert {*told, "isogloss.service.render_report", "serve command"} <= said.keys()
    assert [what for what, is_so in said.items() if not is_so] == []


@pytest.mark.slow
def test_a_client_trains_and_asks_without_what_training_needs(tmp_path: Path) -> None:
    with server_on(tmp_path / "store", "--workers") as server:
        said = use(server.addresses[0], "--trains")
    assert {"hits", "shown"} <= said.keys()
    assert [what for what, is_so in said.items() if not is_so] == []
