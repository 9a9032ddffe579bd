"""Kinds x wirings that pass the contract class, and runs that survive being killed."""

import re
import subprocess
import sys
from pathlib import Path

from house_figures.figure import Figure

_ROOT = Path(__file__).resolve().parents[2]
_KINDS = ("topk", "batch_topk", "matryoshka", "jumprelu", "relu_l1", "gated")
_WIRINGS = ("sae", "transcoder", "crosscoder")
_TEST = re.compile(r"test_(\w+)\.py::Test\w+Wired::test_\w+\[(.+?)\]\s+(PASSED|FAILED|ERROR)")


def kinds() -> Figure:
    """Count the pairs of kind and wiring all of whose tests in the contract class pass."""
    command = [sys.executable, "-m", "pytest", "-v", "-n", "0", "-p", "no:cacheprovider"]
    tests = [f"tests/dictionaries/kinds/test_{kind}.py" for kind in _KINDS]
    done = subprocess.run(
        [*command, "-k", "Wired", *tests], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    ended: dict[tuple[str, str], list[str]] = {}
    for kind, case, how in _TEST.findall(done.stdout):
        wiring = next((one for one in _WIRINGS if one in case), "")
        ended.setdefault((kind, wiring), []).append(how)
    passed = [pair for pair, found in ended.items() if {*found} == {"PASSED"} and pair[1]]
    lacking = [f"{k} {w}" for k in _KINDS for w in _WIRINGS if (k, w) not in passed]
    return Figure(
        figure="kinds",
        value=len(passed),
        bar=len(_KINDS) * len(_WIRINGS),
        at_most=False,
        unit="pairs of kind and wiring that pass the contract class",
        peers={"lacking": lacking, "tests": sum(map(len, ended.values()))},
    )
