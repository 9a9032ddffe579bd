import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from isogloss.dictionaries.training.checkpoints import (
    Checkpoint,
    CheckpointDirectory,
    exclusive,
    remove_checkpoints,
)
from isogloss.errors import (
    Conflict,
    CorruptData,
    StorageError,
    StorageFull,
    UnsupportedVersion,
)


def _checkpoint(step: int) -> Checkpoint:
    tensors = {"weights": torch.full((3, 2), float(step)), "counts": torch.arange(step)}
    return Checkpoint(step=step, state={"loss": 0.1 + step, "none": None}, tensors=tensors)


def _save(directory: Path, *steps: int) -> CheckpointDirectory:
    with exclusive(directory) as checkpoints:
        for step in steps:
            checkpoints.save(_checkpoint(step))
    return CheckpointDirectory(directory)


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path):
    found = _save(tmp_path / "run", 3).newest()
    assert found is not None
    assert (found.step, found.state) == (3, {"loss": 3.1, "none": None})
    assert found.tensors["weights"].tolist() == [[3.0, 3.0]] * 3
    assert found.tensors["counts"].dtype == torch.int64


def test_a_directory_without_checkpoints_has_none(tmp_path: Path):
    with exclusive(tmp_path) as checkpoints:
        assert checkpoints.newest() is None


def test_the_last_two_are_kept(tmp_path: Path):
    _save(tmp_path, 1, 2, 3)
    assert _names(tmp_path) == [
        "checkpoints.json",
        "checkpoints.lock",
        "step-000000000002",
        "step-000000000003",
    ]


def test_saving_the_same_step_again_replaces_it(tmp_path: Path):
    found = _save(tmp_path, 1, 2, 2).newest()
    assert found is not None
    assert found.step == 2
    assert len(json.loads((tmp_path / "checkpoints.json").read_text())["checkpoints"]) == 2


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
):
    checkpoints = _save(tmp_path, 1, 2)
    path = tmp_path / "step-000000000002" / name
    path.write_bytes(path.read_bytes()[:-1])
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 1
    assert "damaged" in caplog.text


def test_damage_to_every_checkpoint_is_an_error_rather_than_a_silent_start(tmp_path: Path):
    checkpoints = _save(tmp_path, 1, 2)
    for path in tmp_path.glob("step-*/state.json"):
        path.unlink()
    with pytest.raises(CorruptData, match="none of the 2 checkpoints"):
        checkpoints.newest()


def test_leftovers_of_a_kill_are_swept_away_and_other_files_stay(tmp_path: Path):
    _save(tmp_path, 1)
    shutil.copytree(tmp_path / "step-000000000001", tmp_path / ".step-000000000002.tmp")
    shutil.copytree(tmp_path / "step-000000000001", tmp_path / "step-000000000003")
    (tmp_path / ".checkpoints.json.77.tmp").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    with exclusive(tmp_path) as checkpoints:
        found = checkpoints.newest()
    assert found is not None
    assert found.step == 1
    assert _names(tmp_path) == [
        "checkpoints.json",
        "checkpoints.lock",
        "notes.txt",
        "step-000000000001",
    ]


@pytest.mark.parametrize(
    ("manifest", "error"),
    [
        ({"version": 2, "checkpoints": []}, UnsupportedVersion),
        ({"version": 1}, CorruptData),
        ({"version": 1, "checkpoints": [7]}, CorruptData),
        ({"version": 1, "checkpoints": [{"name": "../x", "step": 1, "files": {}}]}, CorruptData),
        ({"version": 1, "checkpoints": [{"name": "step-000000000001", "step": 1}]}, CorruptData),
    ],
)
def test_a_manifest_that_cannot_be_true_is_refused(
    tmp_path: Path, manifest: dict[str, object], error: type[Exception]
):
    (tmp_path / "checkpoints.json").write_text(json.dumps(manifest))
    with pytest.raises(error, match=str(tmp_path)):
        CheckpointDirectory(tmp_path).newest()


def test_another_process_cannot_train_in_the_same_directory(tmp_path: Path):
    code = (
        "import sys, pathlib\n"
        "from isogloss.dictionaries.training.checkpoints import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(  # our own interpreter and code
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Conflict, match="another process trains"), exclusive(tmp_path, 0.2):
            pass
        with pytest.raises(Conflict, match="another process trains"):
            remove_checkpoints(tmp_path)
        holder.kill()  # the lock ends with its process, however it ends
        holder.wait()
    with exclusive(tmp_path, wait_s=5.0) as checkpoints:
        assert checkpoints.newest() is None


def test_removing_the_checkpoints_leaves_other_files(tmp_path: Path):
    _save(tmp_path, 1, 2)
    (tmp_path / "dictionary.json").write_text("{}")
    remove_checkpoints(tmp_path)
    assert os.listdir(tmp_path) == ["dictionary.json"]
    remove_checkpoints(tmp_path / "never-there")


@pytest.mark.parametrize("limit", [64, 6_000])
def test_a_checkpoint_that_does_not_fit_says_so_and_leaves_the_one_before(
    tmp_path: Path, limit: int
):
    _save(tmp_path, 1)
    tensors = {"weights": torch.zeros(64, 64)}  # 16 KiB
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with exclusive(tmp_path) as checkpoints:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # the kernel refuses to write more
        try:
            with pytest.raises(StorageFull, match=r"step 2 .*takes 0\.0 MiB.*goes on from step 1"):
                checkpoints.save(Checkpoint(step=2, state={}, tensors=tensors))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        found = checkpoints.newest()
        assert found is not None
        assert found.step == 1
        assert _names(tmp_path) == ["checkpoints.json", "checkpoints.lock", "step-000000000001"]
        checkpoints.save(Checkpoint(step=2, state={}, tensors=tensors))
    assert "step-000000000002" in _names(tmp_path)


def test_a_checkpoint_that_cannot_be_written_says_why(tmp_path: Path):
    with exclusive(tmp_path) as checkpoints:
        (tmp_path / ".step-000000000002.tmp").write_text("in the way")
        with pytest.raises(StorageError, match=r"step 2 was not written.*goes on from its start"):
            checkpoints.save(_checkpoint(2))
