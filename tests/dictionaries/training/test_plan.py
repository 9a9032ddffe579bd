import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isogloss.dictionaries import LeaveOut, Source, TrainConfig, complete_config
from isogloss.dictionaries.training.plan import default_seed, kept_rows, make_plan
from isogloss.errors import InvalidInput


def test_a_complete_config_writes_every_setting_of_its_kind_out():
    config = complete_config(TrainConfig(settings={"features": 64.0}, seed=3))
    assert config.settings == {
        "features": 64,
        "k": 32,
        "adam": "exact",
        "aux_k": None,
        "k_start": None,
        "k_anneal": 0.0,
        "clip_norm": None,
        "init_norm": 0.2,
    }
    assert config.seed == 3
    assert complete_config(config) == config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TrainConfig(kind="no_such", settings={"features": 64}), "no kind 'no_such'.*topk"),
        (TrainConfig(wiring="clt", settings={"features": 64}), "no wiring 'clt'.*sae"),
        (TrainConfig(settings={"features": 64, "k": 65}), "k is 65"),
        (
            TrainConfig(settings={"features": 64, "colour": 1}),
            "colour.*topk.*features.*wiring 'sae'",
        ),
        (TrainConfig(settings={"features": 64, "seed": 1}), "seed"),
    ],
)
def test_what_the_kind_or_the_wiring_refuses_is_refused(config: TrainConfig, message: str):
    with pytest.raises(InvalidInput, match=message):
        complete_config(config)


@pytest.mark.parametrize("sites", [0, 2])
def test_an_autoencoder_of_another_number_of_sites_is_refused(
    sources: list[Source], small_config: TrainConfig, sites: int
):
    with pytest.raises(InvalidInput, match=f"{sites}"):
        make_plan(small_config, sources * sites)


def test_a_run_without_a_seed_has_one_of_its_recording_site_and_kind(
    sources: list[Source], small_config: TrainConfig
):
    open_ = replace(small_config, seed=None)
    plan = make_plan(open_, sources)
    assert plan.seed == plan.config.seed == make_plan(open_, sources).seed
    name = sources[0].reader.spec.recording
    assert plan.seed == default_seed("topk", [(name, sources[0].site)])
    others = [("topk", "another", "s"), ("gated", name, "s"), ("topk", name, "another")]
    seeds = {default_seed(kind, [(recording, site)]) for kind, recording, site in others}
    assert len(seeds | {plan.seed}) == 4
    assert make_plan(replace(open_, seed=7), sources).seed == 7


def test_rows_are_left_out_by_position_and_at_the_start_of_documents(
    sources: list[Source], small_config: TrainConfig
):
    reader = sources[0].reader
    position = reader.tokens().position
    assert kept_rows(reader, LeaveOut()).all()
    by_position = kept_rows(reader, LeaveOut(positions=3))
    assert by_position.tolist() == (np.asarray(position, np.int64) >= 3).tolist()
    starts = kept_rows(reader, LeaveOut(document_starts=True))
    assert (~starts).sum() == len(reader.documents())
    assert not starts[np.asarray(position) == 0].any()
    plan = make_plan(replace(small_config, leave_out=LeaveOut(positions=3)), sources)
    assert not (plan.keep & ~by_position).any()
    with pytest.raises(InvalidInput, match="0 training rows"):
        make_plan(replace(small_config, leave_out=LeaveOut(positions=1000)), sources)


def test_the_learning_rate_warms_up_stays_and_falls_to_almost_nothing(
    sources: list[Source], small_config: TrainConfig
):
    config = replace(small_config, epochs=20.0, learning_rate=0.01, decay=0.5)
    plan = make_plan(config, sources)
    rates = [plan.learning_rate(step) for step in range(plan.total_steps)]
    warmup = round(0.01 * plan.total_steps)
    assert rates[0] == pytest.approx(0.01 / warmup)
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert set(rates[warmup - 1 : plan.total_steps // 2]) == {0.01}
    assert rates[plan.total_steps // 2 :] == sorted(rates[plan.total_steps // 2 :], reverse=True)
    assert 0 < rates[-1] < 0.01 / (0.4 * plan.total_steps)


def test_the_example_of_the_folder_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "dictionaries/training" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    said = [line.partition("# ")[2] for line in code.splitlines() if line.startswith("print(")]
    assert all(line in done.stdout.splitlines() for line in said)
    assert done.stdout
