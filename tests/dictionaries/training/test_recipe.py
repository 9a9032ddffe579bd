import logging
from dataclasses import replace
from pathlib import Path

import pytest

from isogloss.dictionaries import Source, TrainConfig, load_provenance, save_dictionary, train
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.training.recipe import (
    default_dead_rows,
    default_learning_rate,
    derive,
)


def test_the_default_learning_rate_follows_width_features_rows_and_batch():
    rate = default_learning_rate(384, 3072, rows=200_704, batch_rows=512)
    assert rate == pytest.approx(3.06e-3, rel=1e-3)

    def other(width: int = 384, features: int = 3072, rows: int = 200_704, batch: int = 512):
        return default_learning_rate(width, features, rows=rows, batch_rows=batch) / rate

    assert other(width=4 * 384) == pytest.approx(1 / 2)
    assert other(features=16 * 4096) == pytest.approx(1 / 2)
    assert other(features=1024) == pytest.approx(1)
    assert other(batch=2048) == pytest.approx(2)
    assert other(rows=4 * 200_704) == pytest.approx(4**-0.3)
    assert other(rows=1000) == pytest.approx(1.5)


def test_features_are_dead_after_a_fixed_number_of_rows_or_fifty_mean_waits():
    assert default_dead_rows(3072, 32.0) == 5_000
    assert default_dead_rows(12_288, 32.0) == 19_200
    assert default_dead_rows(64, 0.5) == 5_000


def test_only_what_the_config_leaves_open_is_derived_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
):
    kind = make_kind("topk", {"features": 3072})
    with caplog.at_level(logging.INFO):
        found = derive(TrainConfig(settings={"features": 3072}), kind, width=384, total_steps=392)
    assert (found.batch_rows, found.warmup_steps, found.dead_after_rows) == (384, 4, 5_000)
    for said in ("batch_rows 384", "learning_rate 0.00289", "dead_after_rows 5000", "warmup"):
        assert said in caplog.text, said
    caplog.clear()
    given = TrainConfig(settings={"features": 3072}, batch_rows=64, learning_rate=0.5)
    with caplog.at_level(logging.INFO):
        other = derive(given, kind, width=384, total_steps=392)
    assert (other.batch_rows, other.learning_rate) == (64, 0.5)
    assert "batch_rows" not in caplog.text
    assert "dead_after_rows 5000" in caplog.text


def test_what_was_derived_is_kept_with_the_dictionary(
    sources: list[Source], small_config: TrainConfig, tmp_path: Path
):
    config = replace(small_config, learning_rate=None, dead_after_rows=None)
    made = train(config, sources, tmp_path / "run")
    derived = made.provenance.derived
    assert derived["batch_rows"] == config.batch_rows
    assert derived["dead_after_rows"] == 5_000
    save_dictionary(made, tmp_path / "saved")
    assert load_provenance(tmp_path / "saved").derived == derived
