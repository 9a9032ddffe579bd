"""The wire format: lints, keeps what was released, and is what the committed code says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isogloss.proto import generate
from isogloss.service.wire import methods
from isogloss.service.wire.methods import SERVICES

ROOT = Path(__file__).parents[1]
BUF = Path(sys.executable).with_name("buf")


def buf(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BUF), *arguments], cwd=cwd, capture_output=True, text=True)


def test_the_protos_lint_and_are_formatted() -> None:
    lint = buf("lint")
    assert lint.returncode == 0, lint.stdout
    formatted = buf("format", "-d", "--exit-code", "--path", "proto/isogloss")
    assert formatted.returncode == 0, formatted.stdout


def test_nothing_released_was_changed() -> None:
    found = buf("breaking", "--against", "proto/released/v1.binpb")
    assert found.returncode == 0, found.stdout


def test_a_change_of_something_released_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    file = tmp_path / "proto/isogloss/v1/recordings.proto"
    text = file.read_text()
    file.write_text(text.replace("uint64 sequence = 2;", "string sequence = 2;"))
    assert file.read_text() != text
    found = buf("breaking", "--against", "proto/released/v1.binpb", cwd=tmp_path)
    assert found.returncode != 0
    assert "sequence" in found.stdout


def test_regenerating_gives_the_committed_code(tmp_path: Path) -> None:
    generate.generate(tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in (ROOT / "proto/v1").glob("*_pb2*")}
    assert made.keys() == kept.keys()
    assert [name for name in made if made[name] != kept[name]] == []


def test_every_call_of_the_protos_is_in_the_table() -> None:
    in_table = set(methods.METHODS)
    from isogloss.proto.v1 import (
        dictionaries_pb2,
        jobs_pb2,
        recordings_pb2,
        server_pb2,
        universality_pb2,
    )

    in_protos = {
        f"/{service.full_name}/{method.name}"
        for file in (recordings_pb2, dictionaries_pb2, universality_pb2, jobs_pb2, server_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert in_protos <= in_table
    assert {path.split("/")[1] for path in in_table} == set(SERVICES)
    others = in_table - in_protos
    assert {path.split("/")[1] for path in others} == {"google.longrunning.Operations"}


def test_importing_the_messages_imports_nothing_heavy() -> None:
    code = (
        "import sys, isogloss.proto.v1.recordings_pb2, isogloss.proto.v1.universality_pb2\n"
        "print([m for m in ('torch', 'numpy', 'faiss', 'zarr', 'grpc') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # googleapis-common-protos imports grpc for the stubs of Operations
    assert found.stdout.strip() in ("[]", "['grpc']")


@pytest.mark.parametrize(
    "name", ["recordings", "dictionaries", "universality", "jobs", "server", "types"]
)
def test_stubs_stand_beside_the_code(name: str) -> None:
    assert (ROOT / f"proto/v1/{name}_pb2.pyi").exists()
