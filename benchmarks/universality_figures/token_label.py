"""The label 'beyond the token': false positives on features of tokens alone, and power.

A planted pair fires on chosen tokens only, a third of their rows, with a known correlation among
the rows of each of them. A token-driven pair fires on the same kind of tokens, each side by itself
given the token, and each clustered by sources of its own. Half of the pairs of a match are strong,
so that Benjamini and Hochberg's rule gives way and the rest of the rule must hold.

``PYTHONPATH=src:benchmarks python -m universality_figures.token_label [pairs of a cell]``
"""

import sys
from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
from house_figures.figure import Figure
from numpy.typing import NDArray

from isogloss.universality.nulls.compress import compress
from isogloss.universality.nulls.labels import LABELS, UNDECIDED, YES
from isogloss.universality.nulls.rules import DECISIVE, Beyond, beyond_token
from universality_figures.kept import Kept, Numbers
from universality_figures.laws import (
    STRENGTHS,
    Pair,
    Random,
    Text,
    matrices,
    planted,
    source_rates,
    text,
)

ROWS = {"false": (5_000, 25_000, 100_000), "power": (25_000, 100_000)}
SOURCES = 60
DRIVEN = ("one token", "several tokens", "rare tokens")
CLUSTERED = (0.0, 1.0)
PAIRS = 300
_FIRST_SEED = 8000
_RATE = 0.33

_KEPT = Kept("token_label", __file__)

FalseCell = tuple[int, str, str, float]


def chosen_tokens(random: Random, some: Text, kind: str, firings: float) -> NDArray[np.int64]:
    """Return tokens on whose rows a feature fires about so often, at ``_RATE`` of them."""
    counts = some.token.counts
    wanted = firings / _RATE
    if kind == "one token":
        near = np.argsort(np.abs(np.log(counts / wanted)))[:8]
        return random.choice(near, 1)
    pool = np.flatnonzero((counts >= 2) & (counts <= (6 if kind == "rare tokens" else wanted / 3)))
    order = random.permutation(pool)
    return order[: 1 + int(np.searchsorted(np.cumsum(counts[order]), wanted))]


def _rows_of(some: Text, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(np.isin(some.token.label, tokens))


def token_driven(
    random: Random, some: Text, kind: str, law: str, firings: float, clustered: float
) -> Pair:
    """Return features that share their tokens and nothing else."""
    tokens = chosen_tokens(random, some, kind, firings)
    rows = _rows_of(some, tokens)
    # tokens differ in how often and how strongly a feature fires on them; both sides agree on it
    often = random.uniform(0.15, 0.6, some.token.size)[some.token.label[rows]]
    strong = random.lognormal(0, 0.5, some.token.size)[some.token.label]
    sides: list[NDArray[np.int64]] = []
    for _ in range(2):
        rates = source_rates(random, some.sources.size, clustered)[some.sources.label[rows]]
        sides.append(rows[random.random(len(rows)) < np.minimum(often * rates, 1)])
    draw = STRENGTHS[law].draw
    values = [strong[side] * draw(random, len(side)) for side in sides]
    return Pair(rows_a=sides[0], values_a=values[0], rows_b=sides[1], values_b=values[1])


def beyond(
    random: Random, some: Text, law: str, firings: float, r: float, clustered: float
) -> Pair:
    """Return features with a known correlation among the rows of each of their tokens."""
    tokens = chosen_tokens(random, some, "several tokens", firings)
    rows = _rows_of(some, tokens)
    rates = source_rates(random, some.sources.size, clustered)
    return planted(random, rows, some.sources.label[rows], rates, STRENGTHS[law], r, _RATE)


def judge(pairs: list[Pair], some: Text) -> Beyond:
    """Label pairs as a match does."""
    a, b = matrices(pairs, some.rows)
    return beyond_token(
        compress(a),
        compress(b),
        token=some.token,
        position=some.position,
        joint=some.joint,
        sources=some.sources,
    )


def _false_cell(number: int, cell: FalseCell, pairs: int) -> Numbers:
    """Return the share of testable token-driven pairs labelled beyond, and how many there are."""
    rows, kind, law, clustered = cell
    random = np.random.default_rng([_FIRST_SEED, number])
    some = text(random, rows, SOURCES)
    driven = [
        token_driven(random, some, kind, law, 10 ** random.uniform(1.5, 2.7), clustered)
        for _ in range(pairs)
    ]
    strong = [beyond(random, some, "half-normal", 150, 0.6, 0.0) for _ in range(pairs)]
    label = judge([*driven, *strong], some)
    asked = label.token.movable[:pairs] >= 30
    yes = label.label[:pairs] == YES
    return [float(yes[asked].mean()) if asked.any() else 0.0, int(asked.sum())]


def _false_measures(pairs: int) -> dict[FalseCell, Callable[[], Numbers]]:
    cells = product(ROWS["false"], DRIVEN, STRENGTHS, CLUSTERED)
    return {cell: partial(_false_cell, number, cell, pairs) for number, cell in enumerate(cells)}


def false_cells(pairs: int = PAIRS) -> dict[FalseCell, tuple[float, int]]:
    """Return the share of testable token-driven pairs labelled beyond, and how many there are."""
    found: dict[FalseCell, tuple[float, int]] = {}
    for cell, measure in _false_measures(pairs).items():
        share, count = _KEPT.cell(f"false {cell} {pairs}", measure)
        found[cell] = (share, int(count))
    return found


def _power_cell(number: int, r: float, law: str, pairs: int) -> Numbers:
    """Return the share of yes, of undecided, and the number of pairs."""
    labels: list[NDArray[np.int8]] = []
    for rows, clustered in product(ROWS["power"], CLUSTERED):
        random = np.random.default_rng([_FIRST_SEED + 1, number, rows, int(clustered)])
        some = text(random, rows, SOURCES)
        strong = [
            beyond(random, some, law, 10 ** random.uniform(2.1, 2.4), r, clustered)
            for _ in range(pairs)
        ]
        # as many that are of their token alone: Benjamini and Hochberg's rule is not free
        driven = [
            token_driven(random, some, "several tokens", law, 150, clustered) for _ in range(pairs)
        ]
        label = judge([*strong, *driven], some)
        labels.append(label.label[:pairs][label.token.movable[:pairs] >= DECISIVE])
    every = np.concatenate(labels)
    return [float((every == YES).mean()), float((every == UNDECIDED).mean()), len(every)]


def power_cells(pairs: int = PAIRS) -> dict[tuple[float, str], tuple[float, float, int]]:
    """Return the share of yes, of undecided, and the number of pairs, by partial and law."""
    found: dict[tuple[float, str], tuple[float, float, int]] = {}
    for number, (r, law) in enumerate(product((0.4, 0.3), STRENGTHS)):
        yes, unsaid, count = _KEPT.cell(
            f"power {r} {law} {pairs}", partial(_power_cell, number, r, law, pairs)
        )
        found[r, law] = (yes, unsaid, int(count))
    return found


def again(pairs: int = PAIRS) -> dict[str, object]:
    """Measure the quickest kept cell again, and say by how much it differs."""
    return _KEPT.again(
        {f"false {cell} {pairs}": measure for cell, measure in _false_measures(pairs).items()}
    )


def false_beyond(pairs: int = PAIRS) -> Figure:
    """Measure [false_beyond]: token-driven pairs labelled beyond their token, worst cell."""
    found = false_cells(pairs)
    some = {cell: share for cell, (share, count) in found.items() if count >= pairs / 3}
    worst = max(some, key=lambda cell: some[cell])
    counts = np.array([count for _, count in found.values()])
    shares = np.array([share for share, _ in found.values()])
    return Figure(
        figure="false_beyond", value=some[worst], bar=0.05,
        unit="of testable token-driven pairs labelled beyond, worst cell",
        peers={
            "worst": str(worst), "cells": len(some),
            "pooled": float((shares * counts).sum() / counts.sum()), "pairs": int(counts.sum()),
        }, runs=pairs,
    )  # fmt: skip


def _power(name: str, r: float, bar: float, pairs: int) -> Figure:
    found = {law: cell for (partial, law), cell in power_cells(pairs).items() if partial == r}
    worst = min(found, key=lambda law: found[law][0])
    return Figure(
        figure=name, value=found[worst][0], bar=bar, at_most=False,
        unit=f"of pairs with partial r = {r} and >= {DECISIVE} movable firings, worst law",
        peers={
            "worst": worst, "labels": list(LABELS),
            "yes, undecided, pairs by law": {law: list(cell) for law, cell in found.items()},
        }, runs=pairs,
    )  # fmt: skip


def power_beyond(pairs: int = PAIRS) -> Figure:
    """Measure [power_beyond]: pairs of partial r = .4 labelled beyond their token."""
    return _power("power_beyond", 0.4, 0.95, pairs)


def power_beyond_3(pairs: int = PAIRS) -> Figure:
    """Measure [power_beyond_3]: pairs of partial r = .3 labelled beyond their token."""
    return _power("power_beyond_3", 0.3, 0.8, pairs)


if __name__ == "__main__":
    count = int(sys.argv[1]) if sys.argv[1:] else PAIRS
    for figure in (power_beyond(count), power_beyond_3(count), false_beyond(count)):
        print(figure.to_dict(), flush=True)
    for cell, (share, number) in sorted(false_cells(count).items(), key=lambda c: -c[1][0])[:12]:
        print(cell, round(share, 4), number)
