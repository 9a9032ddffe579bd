"""What the toy models of superposition show, of five claims."""

import sys
from pathlib import Path

from house_figures.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from examples.replications import superposition as toy

_CLAIMS = 5
_NOT_MEASURED = "planted features recovered by our dictionaries: not measured here"


def superposition() -> Figure:
    """Count the claims that hold; the fifth, recovery by dictionaries, is not measured yet."""
    shares = toy.represented()
    held = toy.checks(toy.pentagon(), toy.digons(), toy.antiprism(), shares)
    return Figure(
        figure="superposition",
        value=sum(held.values()),
        bar=_CLAIMS,
        at_most=False,
        unit=f"of {_CLAIMS} claims",
        peers={**held, "represented, dense to sparse": shares, "lacks": _NOT_MEASURED},
    )
