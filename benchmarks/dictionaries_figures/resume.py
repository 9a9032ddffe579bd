"""Runs that are killed with SIGKILL at random steps and inside saves, over all kinds."""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from house_figures.figure import Figure

from isogloss.dictionaries import TrainConfig, kind_names, train
from isogloss.dictionaries.testing.recorded import record_planted
from isogloss.store import Store

KILLS = 50
_SCRIPT = Path(__file__).resolve().parents[2] / "tests/dictionaries/training/killed_run.py"
_SETTINGS: Mapping[str, Mapping[str, object]] = {
    "jumprelu": {"target_l0": 2.0},
    "relu_l1": {"resample_every": 3},
    "gated": {"resample_every": 3},
}
SITE = "in"


def resume() -> Figure:
    """Count the kills after which the resumed run ends with the tensors of one never killed."""
    chance, survived, done, lost = random.Random(0), 0, 0, list[str]()
    names = kind_names()
    with tempfile.TemporaryDirectory() as scratch, Store.open(Path(scratch, "store")) as store:
        source = record_planted(store)[0]
        for place, name in enumerate(names):
            settings = _SETTINGS.get(name, {"k": 2})
            config = TrainConfig(
                kind=name,
                settings={"features": 40, **settings},
                batch_rows=128,
                epochs=4.0,
                learning_rate=1e-2,
                dead_after_rows=512,
                checkpoint_every=3,
                seed=0,
            )
            wanted = train(config, [source], Path(scratch, f"{name}-whole"))
            wish = KILLS // len(names) + (place < KILLS % len(names))
            kills = [
                f"disk:{chance.randint(1, 16)}" if n % 2 else f"step:{chance.randint(2, 6)}"
                for n in range(wish)
            ]
            directory = Path(scratch, name)
            killed = _lives(store, source.reader.spec.recording, directory, config, kills)
            found = train(config, [source], directory)
            same = all(torch.equal(found.tensors[n], one) for n, one in wanted.tensors.items())
            done += killed
            survived += killed if same else 0
            if not same:
                lost.append(name)
    return Figure(
        figure="resume",
        value=survived,
        bar=KILLS,
        at_most=False,
        unit=f"kills survived with equal tensors, of {KILLS} tried",
        peers={"killed": done, "kinds": names, "differ": lost},
        runs=done,
    )


def _lives(
    store: Store, recording: str, directory: Path, config: TrainConfig, kills: list[str]
) -> int:
    """Train in one process after another, each killed; returns how many were."""
    words = [str(store.root), recording, str(directory), json.dumps(config.to_dict())]
    done = subprocess.run(
        [sys.executable, str(_SCRIPT), *words, *kills],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SITE": SITE},
    )
    return sum(line.endswith(" -9") for line in done.stdout.splitlines())
