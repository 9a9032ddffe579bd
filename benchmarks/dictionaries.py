"""Figures of training dictionaries: speed, memory, several from one read, resuming, quality, truth.

``python benchmarks/dictionaries.py [--json] [--only ID ...]``

The first run records MiniLM-L6 reading the standard library's documentation (two minutes; kept in
``.cache/dictionaries``, or where ``ISOGLOSS_BENCHMARKS`` says). What is measured stands in the
files of ``dictionaries_figures/``. Quality comes from a study whose cells are kept in
``results/dictionaries_quality.json`` and made by ``python -m dictionaries_figures.study``; one of
them is run again here. Figures beside peers want the environment of ``make bench-peers``; without
it they have no value, and say why. What has no value does not hold: the exit status is 1.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # whatever PYTHONSAFEPATH says
os.environ["PYTHONPATH"] = os.pathsep.join(  # of the processes that figures start
    [str(Path(__file__).resolve().parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

from dictionaries_figures import (
    contract,
    offset,
    peers,
    quality,
    ranks,
    recovered,
    resume,
    speeds,
    together,
    usual,
)
from house_figures.figure import Figure, show

FIGURES: Mapping[str, Callable[[], Figure]] = {
    "many": together.many,
    "controls": together.controls,
    "kinds": contract.kinds,
    "resume": resume.resume,
    "ranks_bytes": ranks.ranks_bytes,
    "offset": offset.offset,
    "memory": peers.memory,
    "fvu_vs_best_peer": quality.fvu_vs_best_peer,
    "cpu_to_fvu": quality.cpu_to_fvu,
    "fvu_defaults": quality.fvu_defaults,
    "dead": quality.dead,
    "kept_cell": quality.kept_cell,
    "usual_rows": usual.usual_rows,
    "recovered_uniform": partial(recovered.recovered, "uniform"),
    "recovered_zipf": partial(recovered.recovered, "zipf"),
    **{name: partial(peers.beside, name) for name in peers.BARS},
}
"""Beside those that one interleaved run gives together."""


def measured(only: Sequence[str]) -> Iterator[Figure]:
    """Yield the wanted figures; none named: all."""
    known = {*FIGURES, *speeds.BARS}
    if strangers := sorted(set(only) - known):
        sys.exit(f"no figure {strangers}; there are {sorted(known)}")
    yield from speeds.over_gemm([name for name in speeds.BARS if not only or name in only])
    for name, measure in FIGURES.items():
        if not only or name in only:
            yield measure()


def main() -> int:
    """Measure and print; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="ID", default=[], help="these figures")
    given = parser.parse_args()
    return show((figure.to_dict() for figure in measured(given.only)), is_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
