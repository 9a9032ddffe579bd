"""What ``dictionaries.py`` of the benchmarks makes of kept cells, and that peers are missing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dictionaries_figures import peers, quality, recovered, study
from dictionaries_figures.cell import Cell


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of cells of its own, for data that nobody has to record."""
    monkeypatch.setattr(study, "RESULTS", tmp_path / "cells.json")
    monkeypatch.setattr(study, "data_of", _named)
    return tmp_path / "cells.json"


def _named(what: str) -> str:
    return f"that of {what}"


def keep(cell: Cell, fvu: float, dead: float = 0.0, cpu_s: float = 10.0) -> None:
    study.keep(cell, {"fvu_a": fvu, "fvu_b": fvu, "dead": dead, "cpu_s": cpu_s, "weights": "none"})


def test_a_cell_is_kept_under_its_settings_code_and_data(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = list(study.cells())
    assert len({study.key(cell) for cell in every}) == len(every)
    keep(study.OURS, 0.1)
    assert json.loads(kept.read_text())[study.key(study.OURS)]["fvu_b"] == 0.1
    assert [*study.study(every)] == [study.OURS]
    monkeypatch.setattr(study, "code_of", _named)
    assert not study.study(every), "a cell of other code was taken"


def test_the_code_of_a_peer_is_its_release_and_how_it_is_driven_alone() -> None:
    codes = {trainer: study.code_of(trainer) for trainer in ("isogloss", *peers.PEERS)}
    assert len({*codes.values()}) == len(codes)


def test_the_bound_of_paired_ratios_is_that_of_students_t() -> None:
    logs = np.array([-0.05, -0.04, -0.06])
    half = 2.92 * logs.std(ddof=1) / 3**0.5
    assert quality.upper_bound([*np.exp(logs)]) == pytest.approx(float(np.exp(-0.05 + half)))
    assert quality.upper_bound([0.9]) == pytest.approx(0.9)


def test_a_study_with_missing_cells_has_a_value_that_does_not_hold_and_says_what_is_missing(
    kept: Path,
) -> None:
    nothing = quality.fvu_vs_best_peer()
    assert nothing.value is None
    for seed in study.SEEDS:
        keep(replace(study.OURS, seed=seed), 0.09, cpu_s=2.0)
        keep(replace(study.SAELENS, seed=seed), 0.10)
    found, cpu = quality.fvu_vs_best_peer(), quality.cpu_to_fvu()
    assert found.value == pytest.approx(0.9, abs=1e-3)
    assert cpu.value == pytest.approx(0.2)
    assert not found.holds, "it holds though conditions are missing"
    assert found.peers["missing"] == [f"{s} {n}: 0 of 3 seeds" for s, n in study.CONDITIONS[1:]]
    for site, steps in study.CONDITIONS[1:]:
        for seed in study.SEEDS:
            keep(replace(study.OURS, site=site, steps=steps, seed=seed), 0.0985, cpu_s=2.0)
            keep(replace(study.SAELENS, site=site, steps=steps, seed=seed), 0.10)
    assert quality.fvu_vs_best_peer().value == pytest.approx(0.985, abs=1e-3), "not the worst"
    assert quality.cpu_to_fvu().holds
    keep(replace(study.OURS, site="mpnet", steps=196), 0.11)
    assert quality.cpu_to_fvu().value == float("inf"), "a run that ends above the peer counts"


def test_cpu_seconds_of_another_processor_are_compared_with_none(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in study.SEEDS:
        keep(replace(study.OURS, seed=seed), 0.09, cpu_s=2.0)
        with monkeypatch.context() as elsewhere:
            if seed:
                elsewhere.setattr(study, "processor", lambda: "another")
            keep(replace(study.SAELENS, seed=seed), 0.10, cpu_s=8.0 if seed else 10.0)
    found = quality.cpu_to_fvu()
    assert found.value == pytest.approx(0.2), "of the pair that one processor took"
    others = [f"{site} {steps}: 0 of 3 seeds" for site, steps in study.CONDITIONS[1:]]
    assert found.peers["missing"] == ["minilm 196: 1 of 3 seeds", *others]
    assert quality.fvu_vs_best_peer().peers["missing"] == others, "FVU is of no processor"


def test_the_peer_that_is_best_on_the_other_part_is_the_one_compared(kept: Path) -> None:
    better = replace(study.SAELENS, batch_rows=1024)
    keep(study.SAELENS, 0.2)
    keep(better, 0.1)
    for seed in study.SEEDS:
        keep(replace(study.OURS, seed=seed), 0.1)
        keep(replace(better, seed=seed), 0.1)
    assert quality.fvu_vs_best_peer().peers["peer"] == better.to_dict()


def test_our_best_is_one_with_few_dead_features(kept: Path) -> None:
    keep(study.OURS, 0.100, dead=0.01)
    keep(replace(study.OURS, batch_rows=256), 0.090, dead=0.03)
    keep(replace(study.OURS, batch_rows=1024), 0.098, dead=0.02)
    found = quality.fvu_defaults()
    assert found.value == pytest.approx(0.1 / 0.098, abs=1e-4)
    assert not found.holds, "four of ours are missing"
    assert quality.dead().value == 0.01


def test_figures_beside_peers_say_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOGLOSS_PEERS", str(tmp_path))
    found = peers.beside("vs_saelens_3k")
    assert found.value is None
    assert not found.holds
    assert "make bench-peers" in str(found.peers["reason"])


def test_a_planted_direction_is_found_by_one_feature_only() -> None:
    directions = np.eye(4)
    assert recovered.share_found(directions, 3 * directions[[2, 0, 3, 1]]) == 1.0
    assert recovered.share_found(directions, directions[[0, 0, 1, 1]]) == 0.5
    assert recovered.share_found(directions, -directions) == 0.0
