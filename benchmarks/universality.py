"""Figures of universality: intervals, labels, nulls and cautions on laws of known truth; cost.

``python benchmarks/universality.py [--json] [--only ID ...]``

Every label has a false-positive and a power figure; a label that is *undecided* counts as a miss.
What each figure measures is said in its file of ``universality_figures/``, which runs alone. The
cells of long ones are kept in ``results/`` (see ``universality_figures/kept.py``): a stopped run
goes on where it was, and ``kept_cells`` measures one of each file again.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # whatever PYTHONSAFEPATH says

from house_figures.figure import Figure, show
from universality_figures import coverage, token_label
from universality_figures.cost import add_one, one_of_100, wide
from universality_figures.coverage import coverage_high, coverage_low
from universality_figures.planted import impostors, planted, planted_false
from universality_figures.queries import query_1m, query_8x24k, recall_all, recall_strong
from universality_figures.replication import false_replicates, power_replicates
from universality_figures.speed import correlation_memory, correlation_speed, signature_rate
from universality_figures.starts import init_false, init_found
from universality_figures.strata_bias import eta_bias, null_closed_form
from universality_figures.token_label import false_beyond, power_beyond, power_beyond_3


def kept_cells() -> Figure:
    """Measure one kept cell of each long figure again, and compare."""
    found = {"coverage": coverage.again(), "token_label": token_label.again()}
    differences = [one["difference"] for one in found.values()]
    known = [float(str(one)) for one in differences if one is not None]
    return Figure(
        figure="kept_cells", value=max(known) if known else None, bar=1e-6,
        unit="difference of a cell measured again", peers={**found}, runs=len(known),
    )  # fmt: skip


def _mutants() -> Figure:
    from house_figures.kept_mutants import mutants  # cosmic-ray takes a second to import

    return mutants("universality")


FIGURES: Mapping[str, Callable[[], Figure]] = {
    "coverage_low": coverage_low,
    "coverage_high": coverage_high,
    "false_beyond": false_beyond,
    "power_beyond": power_beyond,
    "power_beyond_3": power_beyond_3,
    "kept_cells": kept_cells,
    "eta_bias": eta_bias,
    "null_closed_form": null_closed_form,
    "power_replicates": power_replicates,
    "false_replicates": false_replicates,
    "planted": planted,
    "planted_false": planted_false,
    "impostors": impostors,
    "init_found": init_found,
    "init_false": init_false,
    "wide": wide,
    "recall_strong": recall_strong,
    "recall_all": recall_all,
    "query_8x24k": query_8x24k,
    "query_1m": query_1m,
    "one_of_100": one_of_100,
    "add_one": add_one,
    "correlation_speed": correlation_speed,
    "correlation_memory": correlation_memory,
    "signature_rate": signature_rate,
    "mutants": _mutants,
}


REPORTED = ("recall_all",)
"""Figures without a bar."""


def main() -> int:
    """Measure and print; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="ID", default=[], choices=FIGURES)
    given = parser.parse_args()
    wanted = (name for name in FIGURES if not given.only or name in given.only)
    return show((_shown(name) for name in wanted), is_json=given.json)


def _shown(name: str) -> dict[str, object]:
    found = FIGURES[name]().to_dict()
    return {**found, "bar": None} if name in REPORTED else found


if __name__ == "__main__":
    sys.exit(main())
