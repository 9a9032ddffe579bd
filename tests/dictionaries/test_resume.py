"""A run that is killed and resumed gives the tensors of a run that is not."""

import dataclasses
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from isogloss.dictionaries import SparseAutoencoder, TrainConfig, TrainProgress, train
from isogloss.errors import Conflict, CorruptData, JobCancelled
from isogloss.store import RecordingReader, Store

SITE = "encoder.layer.3"
SCRIPT = Path(__file__).with_name("killed_run.py")


def _same(left: SparseAutoencoder, right: SparseAutoencoder) -> None:
    for name, tensor in left.weights.named().items():
        torch.testing.assert_close(right.weights.named()[name], tensor, rtol=0, atol=0, msg=name)
    assert left.provenance.weights_sha256 == right.provenance.weights_sha256
    curves = [
        [dataclasses.replace(point, rows_per_s=0.0) for point in one.provenance.curve]
        for one in (left, right)
    ]
    assert curves[0] == curves[1]


def _lives(
    store: Store, reader: RecordingReader, directory: Path, config: TrainConfig, kills: list[str]
) -> list[tuple[str, int]]:
    """Train in a chain of processes; return how each was to be killed and its exit status."""
    arguments = [str(store.root), reader.spec.recording, str(directory)]
    settings = json.dumps(config.to_dict())
    result = subprocess.run(  # our own interpreter and script
        [sys.executable, str(SCRIPT), *arguments, settings, *kills],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    lines = [line.rsplit(" ", 1) for line in result.stdout.splitlines()]
    assert len(lines) == len(kills), result.stderr
    assert all(status in ("0", "-9") for _, status in lines), result.stderr
    return [(kill, int(status)) for kill, status in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uninterrupted")


@pytest.fixture(scope="module")
def uninterrupted(
    recorded: RecordingReader, small_config: TrainConfig, finished: Path
) -> SparseAutoencoder:
    return train(small_config, recorded, SITE, finished)


def test_a_run_killed_at_random_steps_and_inside_saves_ends_with_equal_tensors(
    store: Store,
    recorded: RecordingReader,
    small_config: TrainConfig,
    uninterrupted: SparseAutoencoder,
    tmp_path: Path,
):
    chance = random.Random(1)
    # a save makes 13 disk calls: files, directories, manifest
    kills = [f"disk:{number}" for number in chance.sample(range(1, 15), 5)]
    kills += [f"step:{chance.randint(2, 9)}" for _ in range(2)]
    chance.shuffle(kills)
    ended = _lives(store, recorded, tmp_path / "killed", small_config, kills)
    assert sum(status == -signal.SIGKILL for _, status in ended) >= 5
    _same(uninterrupted, train(small_config, recorded, SITE, tmp_path / "killed"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_killed_at_any_disk_call_ends_with_equal_tensors(
    store: Store,
    recorded: RecordingReader,
    small_config: TrainConfig,
    uninterrupted: SparseAutoencoder,
    tmp_path: Path,
):
    for number in range(1, 60):
        directory = tmp_path / f"killed-{number}"
        _lives(store, recorded, directory, small_config, [f"disk:{number}"])
        _same(uninterrupted, train(small_config, recorded, SITE, directory))


def test_a_process_killed_from_outside_at_a_random_moment_is_resumed(
    store: Store,
    recorded: RecordingReader,
    small_config: TrainConfig,
    uninterrupted: SparseAutoencoder,
    tmp_path: Path,
):
    config = dataclasses.replace(small_config, checkpoint_every=1)
    directory = tmp_path / "killed"
    with subprocess.Popen(  # our own interpreter and script
        [
            sys.executable,
            str(SCRIPT),
            str(store.root),
            recorded.spec.recording,
            str(directory),
            json.dumps(config.to_dict()),
        ],
    ) as process:
        deadline = time.monotonic() + 60
        while not list(directory.glob("step-*")) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(random.Random(4).random() * 0.2)
        process.kill()
        assert process.wait() in (-signal.SIGKILL, 0)
    _same(uninterrupted, train(small_config, recorded, SITE, directory))


def test_cancelling_saves_a_checkpoint_and_training_again_goes_on_from_it(
    recorded: RecordingReader,
    small_config: TrainConfig,
    uninterrupted: SparseAutoencoder,
    tmp_path: Path,
):
    directory = tmp_path / "cancelled"
    asked = iter([False] * 7 + [True])
    with pytest.raises(JobCancelled, match="after step 7 of"):
        train(small_config, recorded, SITE, directory, should_stop=lambda: next(asked))
    seen: list[TrainProgress] = []
    resumed = train(small_config, recorded, SITE, directory, on_progress=seen.append)
    assert seen[0].step == 8
    _same(uninterrupted, resumed)


def test_a_finished_run_is_returned_again_without_training(
    recorded: RecordingReader,
    small_config: TrainConfig,
    uninterrupted: SparseAutoencoder,
    finished: Path,
):
    seen: list[TrainProgress] = []
    again = train(small_config, recorded, SITE, finished, on_progress=seen.append)
    assert not seen
    _same(uninterrupted, again)


def test_how_often_checkpoints_are_written_changes_nothing(
    recorded: RecordingReader,
    small_config: TrainConfig,
    uninterrupted: SparseAutoencoder,
    tmp_path: Path,
):
    config = dataclasses.replace(small_config, checkpoint_every=1000)
    _same(uninterrupted, train(config, recorded, SITE, tmp_path / "rarely"))


def test_the_directory_of_another_run_is_refused(
    recorded: RecordingReader,
    small_config: TrainConfig,
    uninterrupted: SparseAutoencoder,
    finished: Path,
):
    other = dataclasses.replace(small_config, seed=5, k=3)
    with pytest.raises(Conflict, match=r"config\.k, config\.seed"):
        train(other, recorded, SITE, finished)


@pytest.mark.parametrize("part", ["scale", "curve", "sums", "config"])
def test_a_checkpoint_that_lacks_a_part_is_refused(
    recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path, part: str
):
    import hashlib

    with pytest.raises(JobCancelled):
        train(small_config, recorded, SITE, tmp_path, should_stop=lambda: True)
    path = next(tmp_path.glob("step-*/state.json"))
    state = json.loads(path.read_text())
    del state[part]
    path.write_text(json.dumps(state))
    manifest = json.loads((tmp_path / "checkpoints.json").read_text())
    manifest["checkpoints"][0]["files"]["state.json"] = hashlib.sha256(
        path.read_bytes()
    ).hexdigest()
    (tmp_path / "checkpoints.json").write_text(json.dumps(manifest))
    with pytest.raises(CorruptData, match=part):
        train(small_config, recorded, SITE, tmp_path)
