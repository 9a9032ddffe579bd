"""A planted circuit among decoys: which of its edges are found, and which others."""

import sys
from functools import cache
from pathlib import Path

from house_figures.figure import Figure

from isogloss.models import circuit_curve, find_circuit, score_edges

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.models.circuits.planted import planted, texts

_SEEDS, _FAITHFULNESS, _STEPS, _RANDOM = range(5), 0.95, 10, 19


@cache
def _found() -> list[dict[str, object]]:
    """Find the circuit of each seed on some texts, and measure it on others."""
    runs: list[dict[str, object]] = []
    for seed in _SEEDS:
        model, known, renamed = planted(seed)
        seen, others = texts(renamed, seed=seed), texts(renamed, seed=100 + seed)
        for way in ("eap-ig", "eap"):
            scores = score_edges(model, seen, way=way, steps=_STEPS)
            found = find_circuit(model, others, scores, faithfulness=_FAITHFULNESS)
            curve = circuit_curve(model, others, scores, sizes=[len(found)], count=_RANDOM)
            names = set(found.names)
            runs.append(
                {
                    "seed": seed,
                    "way": way,
                    "edges": len(names),
                    "of": len(found.edges),
                    "known kept": len(names & set(known)) / len(known),
                    "kept that are not known": len(names - set(known)) / len(names),
                    "faithfulness": round(found.faithfulness, 4),
                    "completeness": round(found.completeness, 4),
                    "random, best of 19": round(max(curve.random[0]), 4),
                }
            )
    return runs


def _mean(name: str) -> float:
    """Return a mean over the seeds, of integrated gradients."""
    values = [float(str(run[name])) for run in _found() if run["way"] == "eap-ig"]
    return sum(values) / len(values)


def circuit_found() -> Figure:
    """Average over seeds the share of the planted edges that are kept."""
    return Figure(
        figure="circuit_found",
        value=_mean("known kept"),
        bar=0.95,
        at_most=False,
        unit="share of planted edges kept by EAP-IG at faithfulness .95 on other texts",
        peers={"runs": _found()},
        runs=len(_SEEDS),
    )


def circuit_false() -> Figure:
    """Average over seeds the share of the kept edges that were not planted."""
    return Figure(
        figure="circuit_false",
        value=_mean("kept that are not known"),
        bar=0.05,
        unit="share of the kept edges that were not planted, at faithfulness .95 on other texts",
        peers={"runs": _found()},
        runs=len(_SEEDS),
    )
