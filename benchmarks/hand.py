"""Figures of what a user has in hand: dictionaries, questions, the command line, first steps.

``python benchmarks/hand.py [--json] [--only ID ...] [--full]``

With ``--full`` also what installs packages (``first_feature``). What each figure measures is said
in its file of ``hand_figures/``.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # whatever PYTHONSAFEPATH says

from hand_figures import first_feature, raw_traceback, repr_lines, text_query
from hand_figures.passports import passport_passed, passport_refused
from hand_figures.steering import steer_exact
from hand_figures.weights import weights
from house_figures.figure import Figure, show


def _plain(figures: Iterable[Figure]) -> Iterator[dict[str, object]]:
    return (figure.to_dict() for figure in figures)


GROUPS: dict[tuple[str, ...], Callable[[], Iterator[dict[str, object]]]] = {
    ("weights_wire", "weights_rss"): lambda: _plain(weights()),
    ("passport_refused",): lambda: _plain([passport_refused()]),
    ("passport_passed",): lambda: _plain([passport_passed()]),
    ("steer_exact",): lambda: _plain([steer_exact()]),
    ("text_query",): text_query.measure,
    ("raw_traceback",): raw_traceback.measure,
    ("repr_lines",): repr_lines.measure,
    ("first_feature",): lambda: first_feature.measure(is_full="--full" in sys.argv),
}
"""What makes which figures."""


def figures(only: Sequence[str]) -> Iterator[dict[str, object]]:
    """Measure the figures asked for, one after another; all where none is named."""
    for names, make in GROUPS.items():
        if not only or set(only) & set(names):
            for figure in make():
                if not only or figure["figure"] in only:
                    yield figure


def main() -> int:
    """Print the figures; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one document of JSON")
    parser.add_argument("--full", action="store_true", help="install packages for first_feature")
    known = [name for names in GROUPS for name in names]
    parser.add_argument("--only", nargs="*", default=[], choices=known, help="these alone")
    given = parser.parse_args()
    here = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, here))  # of processes of their own
    return show(figures(given.only), is_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
