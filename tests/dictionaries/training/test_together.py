"""Several dictionaries from one read have the bits of those trained alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isogloss.dictionaries import (
    LeaveOut,
    Source,
    SparseDictionary,
    TrainConfig,
    TrainProgress,
    train,
    train_together,
    with_controls,
)
from isogloss.dictionaries.training import shares as home
from isogloss.errors import InvalidInput, JobCancelled


def _configs(small_config: TrainConfig) -> list[TrainConfig]:
    other = replace(small_config, seed=5, rows_seed=0)
    return [
        *with_controls(replace(small_config, controls=("frozen_decoder",))),
        replace(other, settings={"features": 64, "k": 2}),
        replace(other, kind="jumprelu", settings={"features": 48, "target_l0": 4.0}, epochs=0.5),
    ]


def _equal(one: SparseDictionary, other: SparseDictionary) -> None:
    for name, tensor in one.tensors.items():
        assert torch.equal(other.tensors[name], tensor), name
    assert one.provenance.weights_sha256 == other.provenance.weights_sha256


@pytest.fixture(scope="module")
def alone(
    sources: list[Source], small_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> list[SparseDictionary]:
    place = tmp_path_factory.mktemp("alone")
    configs = _configs(small_config)
    return [train(one, sources, place / f"{n}") for n, one in enumerate(configs)]


def test_dictionaries_from_one_read_have_the_bits_of_single_runs(
    sources: list[Source],
    small_config: TrainConfig,
    alone: list[SparseDictionary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    reads: list[int] = []
    real = home.joined_batches

    def counted(*given: object, **named: object) -> object:
        reads.append(1)
        return real(*given, **named)  # pyright: ignore[reportArgumentType] (as it came)

    monkeypatch.setattr(home, "joined_batches", counted)
    seen: list[tuple[int, TrainProgress]] = []
    configs = _configs(small_config)
    found = train_together(
        configs,
        sources,
        [tmp_path / f"{n}" for n in range(len(configs))],
        on_progress=lambda place, progress: seen.append((place, progress)),
    )
    assert len(reads) == 1
    for one, other in zip(alone, found, strict=True):
        _equal(one, other)
    assert {place for place, _ in seen} == {0, 1, 2, 3}


def test_runs_that_were_stopped_at_different_steps_go_on_to_the_same_bits(
    sources: list[Source],
    small_config: TrainConfig,
    alone: list[SparseDictionary],
    tmp_path: Path,
):
    configs = _configs(small_config)
    asked = iter([False] * 3 + [True])
    with pytest.raises(JobCancelled, match="after step 3 of"):
        train(configs[2], sources, tmp_path / "2", should_stop=lambda: next(asked))
    asked = iter([False] * 7 + [True])
    places = [tmp_path / f"{n}" for n in range(len(configs))]
    with pytest.raises(JobCancelled):
        train_together(configs, sources, places, should_stop=lambda: next(asked))
    for one, other in zip(alone, train_together(configs, sources, places), strict=True):
        _equal(one, other)


def test_runs_whose_rows_differ_are_read_apart(
    sources: list[Source], small_config: TrainConfig, tmp_path: Path
):
    configs = [
        small_config,
        replace(small_config, seed=5),
        replace(small_config, batch_rows=256),
        replace(small_config, leave_out=LeaveOut(positions=3)),
    ]
    short = [replace(one, epochs=0.1) for one in configs]
    found = train_together(short, sources, [tmp_path / f"{n}" for n in range(4)])
    for number, one in enumerate(short):
        _equal(train(one, sources, tmp_path / f"alone-{number}"), found[number])


def test_a_directory_for_each_config_is_wanted(
    sources: list[Source], small_config: TrainConfig, tmp_path: Path
):
    for configs, places in (
        ([], []),
        ([small_config] * 2, [tmp_path] * 2),
        ([small_config], [tmp_path / "a", tmp_path / "b"]),
    ):
        with pytest.raises(InvalidInput, match="one directory for each"):
            train_together(configs, sources, places)
