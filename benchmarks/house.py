"""Figures of the house: how the code is laid out, what it imports, what its tests notice.

``python benchmarks/house.py [--json] [--only ID ...] [--full --parent REV]``

Everything is counted on the working tree. ``light`` starts a real server; ``mutants`` checks the
committed results of ``make mutants`` and runs five of them again; ``tests_cpu`` runs all tests here
and on the parent commit with ``--full``, and else shows the committed measurement.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # whatever PYTHONSAFEPATH says

from house_figures import counted, tests_cpu
from house_figures.figure import Figure
from house_figures.light import light

_graph = cache(counted.import_graph)


def _mutants() -> Figure:
    from house_figures.kept_mutants import mutants  # cosmic-ray takes a second to import

    return mutants()


FIGURES: dict[str, Callable[[], Figure]] = {
    "files_per_folder": counted.files_per_folder,
    "import_circles": lambda: counted.import_circles(_graph()),
    "imports_up": lambda: counted.imports_up(_graph()),
    "files_per_call": counted.files_per_call,
    "files_per_kind": counted.files_per_kind,
    "hidden_imports": counted.hidden_imports,
    "light": light,
    "mutants": _mutants,
    "tests_cpu": tests_cpu.kept,
}


def figures(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the wanted figures, in the order of the table."""
    wanted = set(options.only or FIGURES)
    if not wanted <= set(FIGURES):
        sys.exit(f"no figure {sorted(wanted - set(FIGURES))}; there are {list(FIGURES)}")
    for name, count in FIGURES.items():
        if name in wanted:
            is_run = name == "tests_cpu" and options.full
            yield tests_cpu.measured(options.parent) if is_run else count()


def main() -> int:
    """Count, print, and return 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="ID", help="these figures and no others")
    parser.add_argument("--full", action="store_true", help="run all tests for tests_cpu")
    parser.add_argument("--parent", default="HEAD^", help="the commit that tests_cpu compares with")
    options, found = parser.parse_args(), list[Figure]()
    for figure in figures(options):
        found.append(figure)
        if not options.json:
            sign = "<=" if figure.at_most else ">="
            value = "not measured" if figure.value is None else f"{figure.value:.3g}"
            mark = "holds" if figure.holds else "MISSED"
            print(f"[{figure.figure}] {value} {sign} {figure.bar} {mark}: {figure.unit}")
            print(f"    {json.dumps(figure.peers, ensure_ascii=False)}", flush=True)
    if options.json:
        print(json.dumps({"figures": [figure.to_dict() for figure in found]}, indent=1))
    else:
        for name, lines in counted.long_files().items():
            print(
                f"long: {name} has {lines} lines; look whether it is one idea (500, error at 800)"
            )
    return 0 if all(figure.holds for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
