"""How often an interval of r holds the true r, over laws, firings, sources and clustering.

``PYTHONPATH=src:benchmarks python -m universality_figures.coverage [pairs of a cell]``
"""

import sys
from functools import lru_cache
from itertools import product

import numpy as np
from house_figures.figure import Figure

from isogloss.universality.nulls.intervals import (
    LOOSE_COFIRES,
    LOOSE_FIRES,
    correlation_intervals,
    effective_firings,
)
from universality_figures.laws import FRESH, STRENGTHS, matrices, planted, source_rates, text

ROWS = 25_000
FIRES = {"rare": 60, "ordinary": 300}
CLUSTERED = (0.0, 1.0)
"""Variance over sources of the rate at which a pair fires; 1 is a topic of few sources."""
SOURCES = (40, 100, 300)
CORRELATIONS = (0.3, 0.5)
PAIRS = 2000
_FIRST_SEED = 7000
_BATCH = 100

Cell = tuple[str, str, float, int, float]


@lru_cache(maxsize=1)
def cells(pairs: int = PAIRS) -> dict[Cell, tuple[float, float, float]]:
    """Return by cell the share of intervals that hold the truth, their mean width, and the share
    whose upper end is marked as loose."""
    found: dict[Cell, tuple[float, float, float]] = {}
    grid = product({**STRENGTHS, **FRESH}, FIRES, CLUSTERED, SOURCES, CORRELATIONS)
    for number, cell in enumerate(grid):
        found[cell] = _cell(cell, pairs, np.random.default_rng([_FIRST_SEED, number]))
    return found


def _cell(cell: Cell, pairs: int, random: np.random.Generator) -> tuple[float, float, float]:
    law, fires, clustered, sources, r = cell
    held, width, marked = 0, 0.0, 0
    rows = np.arange(ROWS)
    for start in range(0, pairs, _BATCH):
        some = text(random, ROWS, sources)
        batch = [
            planted(
                random,
                rows,
                some.sources.label,
                source_rates(random, sources, clustered),
                {**STRENGTHS, **FRESH}[law],
                r,
                FIRES[fires] / ROWS,
            )
            for _ in range(min(_BATCH, pairs - start))
        ]
        a, b = matrices(batch, ROWS)
        each = np.arange(len(batch))
        interval = correlation_intervals(a, b, each, each, some.sources)
        held += int(((interval.low <= r) & (r <= interval.high)).sum())
        width += float((interval.high - interval.low).sum())
        least = np.minimum(effective_firings(a), effective_firings(b))
        cofires = np.diff(a.multiply(b).tocsr().indptr)
        marked += int(((cofires < LOOSE_COFIRES) | (least < LOOSE_FIRES)).sum())
    return held / pairs, width / pairs, marked / pairs


def _peers(pairs: int) -> dict[str, object]:
    found = cells(pairs)
    shares = {cell: share for cell, (share, _, _) in found.items()}
    rest = {cell: share for cell, share in shares.items() if not _is_judged(cell, found)}
    worst, best = min(shares, key=lambda c: shares[c]), max(shares, key=lambda c: shares[c])
    return {
        "cells": len(found),
        "mean coverage": float(np.mean(list(shares.values()))),
        "lowest": f"{worst}: {shares[worst]:.4f}",
        "highest": f"{best}: {shares[best]:.4f}",
        "standard error of a cell": float(np.sqrt(0.95 * 0.05 / pairs)),
        "mean width": float(np.mean([width for _, width, _ in found.values()])),
        "cells of fresh laws marked as loose, which the bar leaves out": len(rest),
        "lowest of these": min(rest.values(), default=None),
        "by law": {law: _mean(shares, 0, law) for law in {**STRENGTHS, **FRESH}},
        "by sources": {str(sources): _mean(shares, 3, sources) for sources in SOURCES},
    }


def _mean(shares: dict[Cell, float], place: int, value: object) -> float:
    return float(np.mean([share for cell, share in shares.items() if cell[place] == value]))


def _is_judged(cell: Cell, found: dict[Cell, tuple[float, float, float]]) -> bool:
    """Whether the bars ask about a cell: one of a fresh law only where most pairs are unmarked."""
    return cell[0] in STRENGTHS or found[cell][2] < 0.5


@lru_cache(maxsize=2)
def _extreme(sign: int, pairs: int) -> dict[str, float]:
    """Measure the five lowest (1) or highest (-1) cells anew, since chance chose them too."""
    found = cells(pairs)
    shares = {cell: found[cell][0] for cell in found if _is_judged(cell, found)}
    chosen = sorted(shares, key=lambda cell: sign * shares[cell])[:5]
    return {
        str(cell): _cell(cell, 2 * pairs, np.random.default_rng([_FIRST_SEED + 1, sign + 1, n]))[0]
        for n, cell in enumerate(chosen)
    }


def coverage_low(pairs: int = PAIRS) -> Figure:
    """Measure [coverage_low]: the cell whose 95 % intervals hold the truth least often."""
    anew = _extreme(1, pairs)
    return Figure(
        figure="coverage_low", value=min(anew.values()), bar=0.93, at_most=False,
        unit="of 95 % intervals hold r, lowest of five cells measured anew",
        peers={"anew": anew, **_peers(pairs)}, runs=pairs,
    )  # fmt: skip


def coverage_high(pairs: int = PAIRS) -> Figure:
    """Measure [coverage_high]: the cell whose 95 % intervals hold the truth most often."""
    anew = _extreme(-1, pairs)
    return Figure(
        figure="coverage_high", value=max(anew.values()), bar=0.975,
        unit="of 95 % intervals hold r, highest of five cells measured anew",
        peers={"anew": anew, **_peers(pairs)}, runs=pairs,
    )  # fmt: skip


if __name__ == "__main__":
    count = int(sys.argv[1]) if sys.argv[1:] else PAIRS
    print(coverage_low(count).to_dict())
    for cell, (share, width, marked) in sorted(cells(count).items(), key=lambda item: item[1][0]):
        print(cell, round(share, 4), round(width, 3), round(marked, 2))
