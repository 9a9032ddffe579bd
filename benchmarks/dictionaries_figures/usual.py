"""FVU of usual rows where first tokens hold nearly all of the variance: SmolLM2-135M, layer 15."""

import tempfile
from pathlib import Path

from house_figures.figure import Figure

from dictionaries_figures.rows import HOLDOUT, held_out, recorded
from isogloss.dictionaries import TrainConfig, evaluate, train


def usual_rows() -> Figure:
    """Train with the default settings, 3,072 features, and evaluate on held-out documents."""
    source = recorded("smollm2")
    config = TrainConfig(settings={"features": 3072}, seed=0, holdout=HOLDOUT)
    with tempfile.TemporaryDirectory() as place:
        made = train(config, [source], Path(place, "run"))
    found = evaluate(made, held_out(name="smollm2"))
    return Figure(
        figure="usual_rows",
        value=round(found.usual_fvu, 4),
        bar=0.28,
        unit="FVU of usual held-out rows, SmolLM2-135M layer 15, default settings, 3,072 features",
        peers={
            "fvu of all rows": found.fvu,
            "usual rows": found.usual_rows,
            "rows": found.rows,
            "dead": round(found.dead_fraction, 4),
            "rows trained on": made.provenance.rows_trained,
            "rows left out": made.provenance.rows_left_out,
            "derived": dict(made.provenance.derived),
        },
    )
