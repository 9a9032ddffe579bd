"""Figures of the service: what it costs on the wire and the disk, and what abuse does to it.

``python benchmarks/service.py [--json] [--only ID ...] [--small] [--directory DISK]``

All of it runs on real server processes on this machine. What each figure measures is said in its
file of ``service_figures/``. ``fuzz`` goes on where an earlier run of the same code ended:
``--only fuzz --executions N`` until there are a million. Arrow Flight is a peer where
``ISOGLOSS_FLIGHT_PYTHON`` names a Python that has pyarrow.
"""

import argparse
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

sys.path.insert(0, str(Path(__file__).parent))  # whatever PYTHONSAFEPATH says

from house_figures.figure import Figure, show
from service_figures import durable, fuzz, memory, queries, victim, wire
from service_figures.sizes import SMALL, Sizes

Measure: TypeAlias = Callable[[Collection[str], Sizes], Mapping[str, Figure]]
"""Measures the figures of one file that are wanted."""
FIGURES = (
    *wire.BARS,
    *durable.BARS,
    "fairness",
    "rss_128",
    *victim.NAMES,
    *queries.BARS,
    "fuzz",
)
"""Their ids."""


def measured(only: Sequence[str], sizes: Sizes) -> Iterator[Figure]:
    """Yield the wanted figures; those of one file come from one run.

    Args:
        only: ids of figures; empty: all.
        sizes: how much is measured.
    """
    if strangers := sorted(set(only) - set(FIGURES)):
        sys.exit(f"no figure {strangers}; there are {list(FIGURES)}")
    wanted = [name for name in FIGURES if not only or name in only]
    for names, measure in (
        (wire.BARS, wire.wire),
        ((*durable.BARS, "fairness"), durable.durable),
        (("rss_128",), _alone(memory.rss_128)),
        (victim.NAMES, victim.victim),
        (queries.BARS, queries.queries),
        (("fuzz",), _alone(fuzz.fuzz)),
    ):
        if some := [name for name in wanted if name in names]:
            found = measure(some, sizes)
            yield from (found[name] for name in some)


def _alone(measure: Callable[[Sizes], Figure]) -> Measure:
    """Return a measurement of one figure in the form of those of several."""

    def one(wanted: Collection[str], sizes: Sizes) -> dict[str, Figure]:
        (name,) = wanted
        return {name: measure(sizes)}

    return one


def main() -> int:
    """Measure and print; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="ID", default=[], help="these figures")
    parser.add_argument("--small", action="store_true", help="try the code; numbers mean nothing")
    parser.add_argument("--executions", type=int, help="calls of the fuzzer in this run")
    parser.add_argument("--directory", type=Path, help="on the disk that is measured")
    given = parser.parse_args()
    sizes = replace(SMALL if given.small else Sizes(), directory=given.directory)
    if given.executions is not None:
        sizes = replace(sizes, executions=given.executions)
    return show((figure.to_dict() for figure in measured(given.only, sizes)), is_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
