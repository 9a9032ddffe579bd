"""Figures of recording: which models are recorded, whether rows are right, and what it costs.

``python benchmarks/capture.py [--json] [--only ID ...]``

``models_recorded`` and ``models_wrong`` record a tiny random model of each text architecture of
transformers by ``record_documents`` and by ``client.record``. Their oracle is a process that does
not import isogloss: one text, a batch of one, no padding, a plain hook. ``--only`` also takes names
of architectures, for these two figures of them alone. What the others measure, each in a file of
``capture_figures/``, is said there.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parent))  # whatever PYTHONSAFEPATH says

from capture_figures.architectures import FAMILIES, text_architectures
from capture_figures.each import each
from capture_figures.hook_overhead import hook_overhead
from capture_figures.models_combined import models_combined
from capture_figures.pairs_read import pairs_read
from capture_figures.ranks_exact import ranks_exact
from capture_figures.recorded import WAYS, Outcome
from capture_figures.sampling_uniform import sampling_uniform
from house_figures.figure import show

BAR = 0.9
OF_ARCHITECTURES = ("models_recorded", "models_wrong")
DEADLINE_S = 120.0
"""Of one architecture, so that one that hangs costs itself only."""
_HERE = Path(__file__).resolve().parent


def measure(names: Sequence[str], *, show: bool) -> tuple[list[Outcome], dict[str, str]]:
    """Record each architecture; return what came of it, and why others could not be made."""
    outcomes: list[Outcome] = []
    reasons: dict[str, str] = {}
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    inside = os.pathsep.join(filter(None, [str(_HERE), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch, "oracle")
        rows.mkdir()
        command = [sys.executable, "-m", "capture_figures.oracle", str(rows)]
        plain = {**offline, "PYTHONPATH": str(_HERE)}
        for name, found in each(command, names, environment=plain, deadline_s=DEADLINE_S):
            if isinstance(found, str) or "reason" in found:
                reasons[name] = str(found if isinstance(found, str) else found["reason"])
        built = [name for name in names if name not in reasons]
        command = [sys.executable, "-m", "capture_figures.recorded", f"{scratch}/store", str(rows)]
        ours = {**offline, "PYTHONPATH": inside}
        for name, found in each(command, built, environment=ours, deadline_s=DEADLINE_S):
            some = _outcomes(name, found)
            outcomes += some
            if show:
                print(f"{name:24}", "  ".join(map(describe, some)), flush=True)
    return outcomes, reasons


def _outcomes(name: str, found: Mapping[str, object] | str) -> list[Outcome]:
    if isinstance(found, str):  # nothing is known of any way
        return [Outcome(name=name, way=way, failed=found) for way in WAYS if way != "decoder"]
    told = cast("Sequence[Mapping[str, object]]", found["outcomes"])
    return [Outcome(**fields) for fields in told]  # pyright: ignore[reportArgumentType] - our own


def describe(outcome: Outcome) -> str:
    """Say in a few words what came of one way of recording."""
    if outcome.is_right:
        return f"{outcome.way}: right"
    if outcome.wrong_rows:
        return f"{outcome.way}: {outcome.wrong_rows} wrong of {outcome.rows}"
    return f"{outcome.way}: {'refused' if outcome.refused else 'FAILED'}"


def figures(outcomes: Sequence[Outcome], reasons: Mapping[str, str]) -> list[dict[str, object]]:
    """Return the two figures."""
    ways: dict[str, dict[str, Outcome]] = {}
    for outcome in outcomes:
        ways.setdefault(outcome.name, {})[outcome.way] = outcome
    both = {n for n, w in ways.items() if w["documents"].is_right and w["loop"].is_right}
    lacking = sorted(set(FAMILIES) & set(ways) - both)
    share = len(both) / max(len(ways), 1)
    wrong = {f"{o.name} {o.way}": o.wrong_rows for o in outcomes if o.wrong_rows}
    others = {f"{o.name} {o.way}": o.refused or o.failed for o in outcomes if o.refused or o.failed}
    right = [o.gap for o in outcomes if o.is_right]
    reached = sorted({outcome.name for outcome in outcomes if outcome.reaches})
    return [
        {
            "figure": "models_recorded", "value": round(share, 4), "bar": BAR, "sign": ">=",
            "holds": share >= BAR and not lacking,
            "unit": "of the text architectures that a tiny configuration builds, right both ways",
            "peers": {"architectures": len(ways), "named families that lack": lacking},
            "others": others, "not built": dict(reasons),
        },
        {
            "figure": "models_wrong", "value": sum(wrong.values()), "bar": 0, "sign": "<=",
            "holds": not wrong, "unit": "rows that differ from the oracle's",
            "peers": {"rows": sum(o.rows for o in outcomes), "largest gap of a right row":
                      max(right, default=0.0), "padding reaches rows": reached},
            "wrong": wrong,
        },
    ]  # fmt: skip


FIGURES: Mapping[str, Callable[[], dict[str, object]]] = {
    "hook_overhead": lambda: hook_overhead().to_dict(),
    "ranks_exact": lambda: ranks_exact().to_dict(),
    "sampling_uniform": lambda: sampling_uniform().to_dict(),
    "models_combined": lambda: models_combined().to_dict(),
    "pairs_read": lambda: pairs_read().to_dict(),
}
"""Beside the two of all architectures."""


def measured(only: Sequence[str], *, show: bool) -> Iterator[dict[str, object]]:
    """Yield the wanted figures.

    Args:
        only: ids of figures, and architectures; empty: all.
        show: whether to print each architecture.
    """
    architectures = text_architectures()
    known = {*FIGURES, *OF_ARCHITECTURES, *architectures}
    if strangers := sorted(set(only) - known):
        sys.exit(f"no figure {strangers}; there are {[*OF_ARCHITECTURES, *FIGURES]}")
    some = [name for name in architectures if name in only]
    if some or not only or set(only) & set(OF_ARCHITECTURES):
        wanted = OF_ARCHITECTURES if some or not only else only
        found = figures(*measure(some or architectures, show=show))
        yield from (figure for figure in found if figure["figure"] in wanted)
    for name, measure_it in FIGURES.items():
        if not only or name in only:
            yield measure_it()


def main() -> int:
    """Measure and print; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--only", nargs="+", metavar="ID", default=[], help="these figures, or architectures"
    )
    given = parser.parse_args()
    return show(measured(given.only, show=not given.json), is_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
