"""A run that is killed and resumed gives the tensors of a run that is not."""

import dataclasses
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from isogloss.dictionaries import Source, SparseDictionary, TrainConfig, TrainProgress, train
from isogloss.dictionaries.training.checkpoints import exclusive
from isogloss.errors import Conflict, CorruptData, JobCancelled
from isogloss.store import RecordingReader, Store

SITE = "encoder.layer.3"
SCRIPT = Path(__file__).with_name("killed_run.py")


def _same(left: SparseDictionary, right: SparseDictionary) -> None:
    for name, tensor in left.tensors.items():
        torch.testing.assert_close(right.tensors[name], tensor, rtol=0, atol=0, msg=name)
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
    sources: list[Source], small_config: TrainConfig, finished: Path
) -> SparseDictionary:
    return train(small_config, sources, finished)


def test_a_run_killed_at_random_steps_and_inside_saves_ends_with_equal_tensors(
    store: Store,
    recorded: RecordingReader,
    sources: list[Source],
    small_config: TrainConfig,
    uninterrupted: SparseDictionary,
    tmp_path: Path,
):
    chance = random.Random(1)
    # a save makes 15 disk calls: files, directories, manifest
    kills = [f"disk:{number}" for number in chance.sample(range(1, 17), 5)]
    kills += [f"step:{chance.randint(2, 9)}" for _ in range(2)]
    chance.shuffle(kills)
    ended = _lives(store, recorded, tmp_path / "killed", small_config, kills)
    assert sum(status == -signal.SIGKILL for _, status in ended) >= 5
    _same(uninterrupted, train(small_config, sources, tmp_path / "killed"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_killed_at_any_disk_call_ends_with_equal_tensors(
    store: Store,
    recorded: RecordingReader,
    sources: list[Source],
    small_config: TrainConfig,
    uninterrupted: SparseDictionary,
    tmp_path: Path,
):
    for number in range(1, 60):
        directory = tmp_path / f"killed-{number}"
        _lives(store, recorded, directory, small_config, [f"disk:{number}"])
        _same(uninterrupted, train(small_config, sources, directory))


def test_a_process_killed_from_outside_at_a_random_moment_is_resumed(
    store: Store,
    recorded: RecordingReader,
    sources: list[Source],
    small_config: TrainConfig,
    uninterrupted: SparseDictionary,
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
    _same(uninterrupted, train(small_config, sources, directory))


def test_cancelling_saves_a_checkpoint_and_training_again_goes_on_from_it(
    sources: list[Source],
    small_config: TrainConfig,
    uninterrupted: SparseDictionary,
    tmp_path: Path,
):
    directory = tmp_path / "cancelled"
    asked = iter([False] * 7 + [True])
    with pytest.raises(JobCancelled, match="after step 7 of"):
        train(small_config, sources, directory, should_stop=lambda: next(asked))
    seen: list[TrainProgress] = []
    resumed = train(small_config, sources, directory, on_progress=seen.append)
    assert seen[0].step == 8
    _same(uninterrupted, resumed)


def test_a_finished_run_is_returned_again_without_training(
    sources: list[Source],
    small_config: TrainConfig,
    uninterrupted: SparseDictionary,
    finished: Path,
):
    seen: list[TrainProgress] = []
    again = train(small_config, sources, finished, on_progress=seen.append)
    assert not seen
    _same(uninterrupted, again)


def test_how_often_checkpoints_are_written_changes_nothing(
    sources: list[Source],
    small_config: TrainConfig,
    uninterrupted: SparseDictionary,
    tmp_path: Path,
):
    config = dataclasses.replace(small_config, checkpoint_every=1000)
    _same(uninterrupted, train(config, sources, tmp_path / "rarely"))


def test_the_directory_of_another_run_is_refused(
    sources: list[Source],
    small_config: TrainConfig,
    uninterrupted: SparseDictionary,
    finished: Path,
):
    other = dataclasses.replace(small_config, seed=5, settings={**small_config.settings, "k": 3})
    with pytest.raises(Conflict, match=r"config\.k, config\.seed"):
        train(other, sources, finished)


def _edit_state(directory: Path, state: dict[str, object]) -> None:
    """Write the state of the only checkpoint, and its sha256 into the manifest."""
    path = next(directory.glob("step-*/state.json"))
    path.write_text(json.dumps(state))
    manifest = json.loads((directory / "checkpoints.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["checkpoints"][0]["files"]["state.json"] = digest
    (directory / "checkpoints.json").write_text(json.dumps(manifest))


def test_a_checkpoint_of_the_first_form_is_resumed_to_equal_tensors(
    sources: list[Source],
    small_config: TrainConfig,
    uninterrupted: SparseDictionary,
    tmp_path: Path,
):
    asked = iter([False] * 3 + [True])
    config = dataclasses.replace(small_config, checkpoint_every=1000)
    with pytest.raises(JobCancelled):
        train(config, sources, tmp_path, should_stop=lambda: next(asked))
    state = json.loads(next(tmp_path.glob("step-*/state.json")).read_text())
    flat = {name: value for name, value in state["config"].items() if name != "wiring"}
    (state["site"],) = state.pop("sites")
    state["config"] = flat | flat.pop("settings")
    _edit_state(tmp_path, state)
    seen: list[TrainProgress] = []
    resumed = train(config, sources, tmp_path, on_progress=seen.append)
    assert seen[0].step == 4
    _same(uninterrupted, resumed)


@pytest.mark.parametrize("part", ["scale", "curve", "sums", "config", "sites"])
def test_a_checkpoint_that_lacks_a_part_is_refused(
    sources: list[Source], small_config: TrainConfig, tmp_path: Path, part: str
):
    with pytest.raises(JobCancelled):
        train(small_config, sources, tmp_path, should_stop=lambda: True)
    state = json.loads(next(tmp_path.glob("step-*/state.json")).read_text())
    del state[part]
    _edit_state(tmp_path, state)
    with pytest.raises(CorruptData, match=part.removesuffix("s")):
        train(small_config, sources, tmp_path)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("first.decoder", torch.zeros(96, 31)),
        ("silent_rows", torch.zeros(96)),
        ("weights.encoder", None),
    ],
)
def test_a_checkpoint_whose_tensors_are_of_another_shape_or_missing_is_refused(
    sources: list[Source],
    small_config: TrainConfig,
    tmp_path: Path,
    name: str,
    wrong: torch.Tensor | None,
):
    with pytest.raises(JobCancelled):
        train(small_config, sources, tmp_path, should_stop=lambda: True)
    with exclusive(tmp_path) as checkpoints:
        start = checkpoints.newest()
        assert start is not None
        tensors = {key: tensor for key, tensor in start.tensors.items() if key != name}
        if wrong is not None:
            tensors[name] = wrong
        checkpoints.save(dataclasses.replace(start, tensors=tensors))
    with pytest.raises(CorruptData, match=name):
        train(small_config, sources, tmp_path)
