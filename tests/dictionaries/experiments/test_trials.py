"""Kinds trained on planted rows find them, better where they are frequent."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from isogloss.dictionaries import Superposition, TrainProgress, run_trials
from isogloss.dictionaries.experiments.trials import record_superposition, trial_config, trial_kinds
from isogloss.dictionaries.kinds.table import kind_names
from isogloss.errors import InvalidInput
from isogloss.store import Store

WORLD = Superposition(features=24, width=16, fires=1.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def test_every_kind_of_the_package_can_be_tried() -> None:
    assert trial_kinds() == tuple(kind_names())
    assert len(trial_kinds()) == 6


def test_kinds_find_what_was_planted(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    def on_progress(world: str, kind: str, at: TrainProgress) -> None:
        told.append((world, kind))

    kinds = ("topk", "batch_topk", "jumprelu", "relu_l1", "gated")
    found = run_trials(
        {"w": WORLD}, kinds, tmp_path, rows=16_384, epochs=6.0, on_progress=on_progress
    )
    assert [(trial.world, trial.kind) for trial in found] == [("w", kind) for kind in kinds]
    for trial in found:
        score = trial.recovery
        assert score.recovered >= 0.95, trial
        assert score.mcc > 0.93, trial
        assert 0.5 < score.l0 / WORLD.fires < 2, trial
    assert {*told} == {("w", kind) for kind in kinds}


def test_a_recording_of_planted_rows_holds_them_in_order(store: Store) -> None:
    source = record_superposition(store, WORLD, 8192, "planted")
    wanted = np.concatenate([WORLD.block(0).rows, WORLD.block(1).rows])
    assert np.array_equal(source.reader.take(source.site, np.arange(8192)), wanted)


@pytest.mark.parametrize("rows", [0, 4097, -4096])
def test_rows_that_fill_no_block_are_refused(store: Store, rows: int) -> None:
    with pytest.raises(InvalidInput, match="multiple of 4,096"):
        record_superposition(store, WORLD, rows, "planted")


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="'topq' is none of batch_topk"):
        trial_config("topq", features=8, fires=1.0, epochs=1.0, seed=0)
