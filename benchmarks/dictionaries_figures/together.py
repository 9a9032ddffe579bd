"""What several dictionaries from one read cost, in CPU seconds of whole processes.

A run reads, measures, plans and trains; what a process takes to start is in it, because each of
four runs alone is a process of its own. 3,072 features, k = 32, batch 1024, half an epoch: 146
steps.

The floor beside each figure is what it would be if nothing but encoder GEMMs were left of each
further run: every dictionary has an encoder of its own, so these cannot be shared.

``PYTHONPATH=benchmarks:src python -m dictionaries_figures.together many`` trains in this process.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from house_figures.figure import Figure

from dictionaries_figures.rows import HOLDOUT, batches, recorded
from isogloss.dictionaries import (
    CONTROLS,
    TrainConfig,
    train_together,
    training_rows,
    with_controls,
)

_BASE = TrainConfig(
    settings={"features": 3072, "k": 32}, batch_rows=1024, epochs=0.5, seed=0, rows_seed=0
)
_MANY = [replace(_BASE, seed=seed) for seed in range(4)]
RUNS: dict[str, list[TrainConfig]] = {
    "many": _MANY,
    **{f"alone {seed}": [one] for seed, one in enumerate(_MANY)},
    "controls": with_controls(replace(_BASE, controls=CONTROLS)),
}


def cpu_seconds(name: str) -> float:
    """Return the CPU seconds of a process that trains what ``RUNS`` names."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "dictionaries_figures.together", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(getattr(after, one) - getattr(before, one) for one in ("ru_utime", "ru_stime"))


def gemm_seconds() -> float:
    """Return the CPU seconds of the encoder GEMMs of one run."""
    torch.set_num_threads(2)
    rows, weight = batches(4, 1024), torch.randn(3072, 384)
    out = torch.empty(1024, 3072)
    torch.mm(rows[0], weight.T, out=out)
    before = time.process_time()
    for number in range(32):
        torch.mm(rows[number % 4], weight.T, out=out)
    each = (time.process_time() - before) / 32
    steps = int(training_rows(recorded().reader, HOLDOUT).sum()) // 1024 / 2
    return each * steps


def many() -> Figure:
    """Measure four dictionaries of one read beside four runs."""
    recorded()
    cpu_seconds("alone 0")  # compiles
    together = cpu_seconds("many")
    alone = [cpu_seconds(f"alone {seed}") for seed in range(4)]
    return Figure(
        figure="many",
        value=round(together / sum(alone), 3),
        bar=0.7,
        unit="CPU seconds, 4 dictionaries from one read / 4 runs, each a process",
        peers={
            "together": round(together, 2),
            "alone": [round(one, 2) for one in alone],
            "floor": round(4 * gemm_seconds() / sum(alone), 3),
        },
    )


def controls() -> Figure:
    """Measure a run with its three controls beside the run alone."""
    recorded()
    cpu_seconds("alone 0")
    alone, beside = cpu_seconds("alone 0"), cpu_seconds("controls")
    return Figure(
        figure="controls",
        value=round(beside / alone, 3),
        bar=1.5,
        unit="CPU seconds, a run and its three controls from one read / the run",
        peers={
            "beside": round(beside, 2),
            "alone": round(alone, 2),
            "floor": round(1 + 3 * gemm_seconds() / alone, 3),
        },
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        chosen = RUNS[sys.argv[1]]
        train_together(chosen, [recorded()], [Path(place, f"{n}") for n in range(len(chosen))])
