"""Each library's example records the same rows in both ways, which are those of a plain pass."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import isogloss

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "recording"
PEERS = {
    "nnsight_trace": ("nnsight", ""),
    "transformer_lens_3": ("transformer_lens", "3."),
    "transformer_lens_4": ("transformer_lens", "4."),
}
"""Examples of libraries that have an environment of their own (``make test-peers``)."""
QUICK = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in PEERS)


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def runner() -> Iterator[subprocess.Popen[str]]:
    """Runs examples in processes that are forked once torch and transformers are imported."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("run_examples.py"))],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def run_quickly(runner: subprocess.Popen[str], name: str, store: Path) -> None:
    assert runner.stdin is not None
    assert runner.stdout is not None
    runner.stdin.write(json.dumps([str(FOLDER / f"{name}.py"), str(store)]) + "\n")
    runner.stdin.flush()
    said: list[str] = []
    for line in runner.stdout:
        said.append(line)
        if line.startswith("ended "):
            break
    assert said[-1:] == ["ended 0\n"], said


def compare(store: Path) -> None:
    """The rows of the two recordings of an example must be the same."""
    with isogloss.connect(store) as client:
        assert {found.id for found in client.recordings()} == {"documents", "loop"}
        first, second = client.recording("documents"), client.recording("loop")
        assert (first.rows, second.rows) == (12, 12)
        rows = [
            client.read(found.id, found.spec.sites[0].name).astype(np.float32)
            for found in (first, second)
        ]
        columns = [client.tokens(found.id) for found in (first, second)]
    assert rows[0].shape == (12, 32)
    # two passes of two layers in float32, padded otherwise: see benchmarks/capture_figures
    np.testing.assert_allclose(rows[0], rows[1], rtol=0, atol=1e-4 * np.abs(rows[0]).max())
    assert np.std(rows[0], axis=0).min() > 0
    assert columns[0].token_id.tolist() == columns[1].token_id.tolist()
    assert columns[0].position.tolist() == columns[1].position.tolist()
    assert columns[0].document.tolist() == columns[1].document.tolist()


def run(name: str, store: Path) -> None:
    """Run an example as its readers do."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), str(store)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", QUICK)
def test_an_example_records_the_same_rows_in_both_ways(
    runner: subprocess.Popen[str], name: str, tmp_path: Path
) -> None:
    run_quickly(runner, name, tmp_path / "store")
    compare(tmp_path / "store")


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_an_example_runs_by_itself(name: str, tmp_path: Path) -> None:
    run(name, tmp_path / "store")
    compare(tmp_path / "store")


@pytest.mark.peers
@pytest.mark.parametrize("name", list(PEERS))
def test_an_example_of_a_peer_records_the_same_rows_in_both_ways(name: str, tmp_path: Path) -> None:
    package, version = PEERS[name]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not in this environment: make test-peers")
    found = importlib.metadata.version(package.replace("_", "-"))
    if not found.startswith(version):
        pytest.skip(f"this environment has {package} {found}, wanted {version}")
    run(name, tmp_path / "store")
    compare(tmp_path / "store")


def test_every_example_is_short_and_listed_in_the_map() -> None:
    listed = (FOLDER / "README.md").read_text()
    for path in FOLDER.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path.name
        assert f"`{path.name}`" in listed
