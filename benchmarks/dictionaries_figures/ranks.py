"""Bytes that ranks hand to collectives, beside the documented formula."""

import tempfile
from pathlib import Path
from typing import cast

import numpy as np
from house_figures.figure import Figure

from dictionaries_figures.rank_train import Plan, run_ranks
from isogloss.dictionaries import TrainConfig
from isogloss.dictionaries.testing.planted import WIDTH
from isogloss.dictionaries.testing.recorded import record_planted
from isogloss.dictionaries.training.shares import step_bytes
from isogloss.store import Store

ROWS, K, STEPS = 128, 2, 3
_FEATURES, _WIDTH, _BATCH = 12_288, 384, 512


def ranks_bytes() -> Figure:
    """Train TopK with two and three ranks; take the worst ratio of a step before one is dead.

    Three ranks cannot share 128 rows evenly: two of them read.
    """
    config = TrainConfig(
        settings={"features": 40, "k": K},
        batch_rows=ROWS,
        epochs=1.0,
        learning_rate=1e-2,
        dead_after_rows=STEPS * ROWS + 1,
        seed=0,
    )
    found: dict[str, list[int]] = {}
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, Store.open(Path(scratch, "store")) as store:
        recording = record_planted(store)[0].reader.spec.recording
        for world in (2, 3):
            plan = Plan(
                store=str(store.root),
                recording=recording,
                sites=["in"],
                directory=str(Path(scratch, f"of-{world}")),
                configs=[config.to_dict()],
            )
            formula = step_bytes(batch_rows=ROWS, width=WIDTH, world=world, k=K)
            for said in run_ranks(plan, world)[0]:
                steps = np.diff(cast("list[int]", said["sent"]))[:STEPS].tolist()
                found[f"rank {said['rank']} of {world}"] = [*steps, formula]
                ratios += [step / formula for step in steps]
    sent = step_bytes(batch_rows=_BATCH, width=_WIDTH, world=2, k=32)
    return Figure(
        figure="ranks_bytes",
        value=1 + max(abs(ratio - 1) for ratio in ratios) if len(found) == 2 + 3 else None,
        bar=1.0,
        unit="1 + the largest relative difference of bytes handed to torch.distributed and formula",
        peers={
            "bytes of steps, formula": found,
            "formula at 12,288 features, 384 columns, k 32, 512 rows, 2 ranks": sent,
            "gradients there": 8 * _FEATURES * _WIDTH,
        },
        runs=len(ratios),
    )
