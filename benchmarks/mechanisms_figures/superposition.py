"""What the toy models of superposition show, of five claims."""

import sys
import tempfile
from pathlib import Path

from house_figures.figure import Figure

from isogloss.dictionaries import Superposition, run_trials

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from examples.replications import superposition as toy

_CLAIMS, _RECOVERED = 5, 0.98
_PLANTED = Superposition(features=64, width=32, fires=2.0)
_KINDS, _ROWS, _EPOCHS = ("topk", "batch_topk"), 65_536, 4.0


def recovered() -> dict[str, dict[str, float]]:
    """Train dictionaries on 64 features in 32 columns; return what each kind recovered of them."""
    with tempfile.TemporaryDirectory() as folder:
        trials = run_trials({"planted": _PLANTED}, _KINDS, Path(folder), rows=_ROWS, epochs=_EPOCHS)
    return {
        one.kind: {
            "of 64": round(_PLANTED.features * one.recovery.recovered),
            "mmcs": one.recovery.mcc,
        }
        for one in trials
    }


def superposition() -> Figure:
    """Count the claims that hold; the fifth is recovery by our dictionaries, all kinds tried."""
    shares, found = toy.represented(), recovered()
    held = toy.checks(toy.pentagon(), toy.digons(), toy.antiprism(), shares)
    held["planted features recovered"] = all(
        one["of 64"] == _PLANTED.features and one["mmcs"] >= _RECOVERED for one in found.values()
    )
    return Figure(
        figure="superposition",
        value=sum(held.values()),
        bar=_CLAIMS,
        at_most=False,
        unit=f"of {_CLAIMS} claims",
        peers={**held, "recovered": found, "represented, dense to sparse": shares},
    )
