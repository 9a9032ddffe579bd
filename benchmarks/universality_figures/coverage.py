"""How often an interval of r holds the true r, over laws, firings, sources and clustering.

``PYTHONPATH=src:benchmarks python -m universality_figures.coverage``

Five laws are those of the bar: every pair counts with both ends of its interval, also where the
upper end is marked as loose. Three fresh laws chose nothing. Of them, what is claimed counts: both
ends, or the lower end alone where the upper one is marked. No cell is left out. Both shares are
among the peers for either kind of law.
"""

from functools import partial
from itertools import product

import numpy as np
from house_figures.figure import Figure

from isogloss.universality.nulls.intervals import (
    LOOSE_COFIRES,
    LOOSE_FIRES,
    correlation_intervals,
    effective_firings,
)
from universality_figures.kept import Kept, Numbers
from universality_figures.laws import FRESH, STRENGTHS, matrices, planted, source_rates, text

ROWS = 25_000
FIRES = {"rare": 60, "ordinary": 300}
CLUSTERED = (0.0, 1.0)
"""Variance over sources of the rate at which a pair fires; 1 is a topic of few sources."""
SOURCES = (40, 100, 300)
CORRELATIONS = (0.3, 0.5)
PAIRS = 2000
AGAIN = 2
"""Times as many pairs in a cell that is measured anew, since chance chose it too."""
_FIRST_SEED = 7000
_BATCH = 100
_KEPT = Kept("coverage", __file__)

Cell = tuple[str, str, float, int, float]
BOTH, CLAIMED, WIDTH, LOOSE, BELOW = range(5)
"""Of a cell: share of intervals that hold r; of which what is claimed holds; mean width; share
whose upper end is marked; share with r below the lower end."""


def grid() -> list[Cell]:
    """Return the cells: law, firings, clustering, sources, true r."""
    return list(product({**STRENGTHS, **FRESH}, FIRES, CLUSTERED, SOURCES, CORRELATIONS))


def _measure(cell: Cell, pairs: int, seed: tuple[int, ...]) -> Numbers:
    law, fires, clustered, sources, r = cell
    random, rows = np.random.default_rng(seed), np.arange(ROWS)
    found: list[tuple[np.ndarray, ...]] = []
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
        least = np.minimum(effective_firings(a), effective_firings(b))
        cofires = np.diff(a.multiply(b).tocsr().indptr)
        is_loose = (cofires < LOOSE_COFIRES) | (least < LOOSE_FIRES)
        found.append((interval.low, interval.high, is_loose))
    low, high, is_loose = (np.concatenate(parts) for parts in zip(*found, strict=True))
    holds_low, holds_high = low <= r, r <= high
    return [
        float((holds_low & holds_high).mean()),
        float((holds_low & (holds_high | is_loose)).mean()),
        float((high - low).mean()),
        float(is_loose.mean()),
        float((~holds_low).mean()),
    ]


def cells(pairs: int = PAIRS) -> dict[Cell, Numbers]:
    """Return all cells, measured or kept."""
    return {
        cell: _KEPT.cell(f"{cell} {pairs}", partial(_measure, cell, pairs, (_FIRST_SEED, number)))
        for number, cell in enumerate(grid())
    }


def _is_of_the_bar(cell: Cell) -> bool:
    return cell[0] in STRENGTHS


def _judged(cell: Cell, numbers: Numbers) -> float:
    """Return the share that the lower bar asks for."""
    return numbers[BOTH if _is_of_the_bar(cell) else CLAIMED]


def _anew(cell: Cell, place: int, pairs: int) -> Numbers:
    count = AGAIN * pairs
    return _KEPT.cell(
        f"{cell} {count} anew",
        partial(_measure, cell, count, (_FIRST_SEED + 1, place, grid().index(cell))),
    )


def _figure(name: str, sign: int, pairs: int) -> Figure:
    """Measure the five lowest (1) or highest (-1) cells anew, and take the extreme of these."""
    found = cells(pairs)
    shares = {
        cell: _judged(cell, numbers) if sign > 0 else numbers[BOTH]
        for cell, numbers in found.items()
    }
    chosen = sorted(shares, key=lambda cell: sign * shares[cell])[:5]
    fresh = {cell: _anew(cell, sign + 1, pairs) for cell in chosen}
    anew = {
        str(cell): _judged(cell, numbers) if sign > 0 else numbers[BOTH]
        for cell, numbers in fresh.items()
    }
    low = sign > 0
    return Figure(
        figure=name, value=(min if low else max)(anew.values()),
        bar=0.93 if low else 0.975, at_most=not low,
        unit=f"of 95 % intervals hold r, {'lowest' if low else 'highest'} of five cells anew",
        peers={"anew": anew, **_peers(found, pairs)}, runs=pairs,
    )  # fmt: skip


def _peers(found: dict[Cell, Numbers], pairs: int) -> dict[str, object]:
    def extreme(cells_of: list[Cell], place: int) -> dict[str, str]:
        worst = min(cells_of, key=lambda cell: found[cell][place])
        best = max(cells_of, key=lambda cell: found[cell][place])
        return {name: f"{cell}: {found[cell][place]:.4f}"
                for name, cell in (("lowest", worst), ("highest", best))}  # fmt: skip

    of_bar = [cell for cell in found if _is_of_the_bar(cell)]
    others = [cell for cell in found if not _is_of_the_bar(cell)]
    return {
        "cells": len(found),
        "standard error of a cell": float(np.sqrt(0.95 * 0.05 / pairs)),
        "laws of the bar, both ends": extreme(of_bar, BOTH),
        "laws of the bar, what is claimed": extreme(of_bar, CLAIMED),
        "fresh laws, both ends": extreme(others, BOTH),
        "fresh laws, what is claimed": extreme(others, CLAIMED),
        "r below the lower end": extreme(list(found), BELOW),
        "mean by law": {law: _mean(found, 0, law) for law in {**STRENGTHS, **FRESH}},
        "mean by sources": {str(sources): _mean(found, 3, sources) for sources in SOURCES},
        "marked as loose by law": {
            law: float(np.mean([numbers[LOOSE] for cell, numbers in found.items()
                                if cell[0] == law])) for law in {**STRENGTHS, **FRESH}
        },
    }  # fmt: skip


def _mean(found: dict[Cell, Numbers], place: int, value: object) -> float:
    shares = [numbers[BOTH] for cell, numbers in found.items() if cell[place] == value]
    return float(np.mean(shares))


def coverage_low(pairs: int = PAIRS) -> Figure:
    """Measure [coverage_low]: the cell whose 95 % intervals hold the truth least often."""
    return _figure("coverage_low", 1, pairs)


def coverage_high(pairs: int = PAIRS) -> Figure:
    """Measure [coverage_high]: the cell whose 95 % intervals hold the truth most often."""
    return _figure("coverage_high", -1, pairs)


def again(pairs: int = PAIRS) -> dict[str, object]:
    """Measure the quickest kept cell again, and say by how much it differs."""
    return _KEPT.again(
        {
            f"{cell} {pairs}": partial(_measure, cell, pairs, (_FIRST_SEED, number))
            for number, cell in enumerate(grid())
        }
    )


if __name__ == "__main__":
    for figure in (coverage_low(), coverage_high()):
        print(figure.to_dict(), flush=True)
    for one, values in sorted(cells().items(), key=lambda item: item[1][BOTH]):
        print(one, [round(value, 4) for value in values])
