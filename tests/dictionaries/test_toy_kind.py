"""A kind that another package brings trains, saves, loads and encodes like one of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.dictionaries.toy_kind.install import HERE, KIND, install_toy_kind
from tests.dictionaries.toy_kind.toy_kind import ReluL1

from isogloss.dictionaries import Kind, kind_names, load_dictionary, load_provenance
from isogloss.dictionaries.testing import KindContract
from isogloss.errors import UnsupportedVersion
from isogloss.store import RecordingReader, Store

SCRIPT = Path(__file__).with_name("use_kind.py")


class TestToyKind(KindContract):
    def make(self) -> Kind:
        return ReluL1(features=24)

    def make_wide(self) -> Kind:
        # plain torch: its products of more features are split, and rounded, by thread
        return ReluL1(features=64)


def _use(*arguments: str, installed: Path) -> dict[str, object]:
    paths = [str(installed)]
    paths += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    done = subprocess.run(  # our own interpreter and script
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=140,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr}


def test_a_kind_from_outside_trains_saves_loads_and_encodes(
    store: Store, recorded: RecordingReader, tmp_path: Path
):
    installed = install_toy_kind(tmp_path / "installed")
    directory = tmp_path / "made"
    config = {
        "kind": KIND,
        "settings": {"features": 96.0, "l1": 0},
        "batch_rows": 512,
        "learning_rate": 0.003,
    }
    arguments = (str(store.root), recorded.spec.recording, str(directory), json.dumps(config))
    trained = _use("train", *arguments, installed=installed)
    assert trained["kinds"] == sorted([KIND, *kind_names()]), trained
    assert set(trained["schema"]["properties"]) == {"features", "l1"}  # pyright: ignore[reportIndexIssue, reportCallIssue, reportArgumentType]  # a JSON object
    assert trained["fvu"] < 0.3 < trained["first_fvu"]  # pyright: ignore[reportOperatorIssue]  # JSON numbers

    encoded = _use("encode", str(directory), "7", installed=installed)
    assert encoded["kind"] == KIND, encoded
    assert (encoded["rows"], encoded["decoded"]) == (7, [7, 32])
    assert encoded["positive"] > 0  # pyright: ignore[reportOperatorIssue]  # a JSON number

    provenance = load_provenance(directory)  # read without the package
    assert provenance.weights_sha256 == trained["sha256"]
    assert provenance.config is not None
    assert provenance.config.settings == {"features": 96, "l1": 0.0}

    # this process does not have the package
    lost = f"no kind '{KIND}' is installed; there are: {', '.join(kind_names())}"
    with pytest.raises(UnsupportedVersion, match=lost):
        load_dictionary(directory)


def test_the_toy_is_as_short_as_a_kind_may_be():
    lines = (HERE / "toy_kind.py").read_text().splitlines()
    assert len(lines) <= 60
