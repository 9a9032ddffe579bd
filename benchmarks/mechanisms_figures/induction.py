"""Seeds from which a two-layer attention-only model forms an induction head."""

import sys
import time
from pathlib import Path

from house_figures.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from examples.replications.induction import train

_SEEDS, _BAR, _CPU_S = (0, 1, 2), 0.5, 60.0


def induction_seeds() -> Figure:
    """Train from each seed; count those with both heads within a minute of CPU."""
    runs: list[dict[str, float]] = []
    for seed in _SEEDS:
        start = time.process_time()
        last = train(seed)[-1]
        runs.append(
            {
                "seed": seed,
                "induction": last.induction,
                "previous": last.previous,
                "loss": last.loss,
                "cpu_s": round(time.process_time() - start, 1),
            }
        )
    good = [
        run
        for run in runs
        if min(run["induction"], run["previous"]) >= _BAR and run["cpu_s"] <= _CPU_S
    ]
    return Figure(
        figure="induction_seeds",
        value=len(good),
        bar=len(_SEEDS),
        at_most=False,
        unit=f"of {len(_SEEDS)} seeds with an induction and a previous-token head of {_BAR}",
        peers={"runs": runs},
        runs=len(_SEEDS),
    )
