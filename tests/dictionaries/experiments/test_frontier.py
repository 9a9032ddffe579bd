"""Cells of a sweep, and when two of them are told apart: checked on drawn seeds of known spread."""

import numpy as np
import pytest

from isogloss.dictionaries.experiments.frontier import (
    CellKey,
    SweptDictionary,
    cells_of,
    reseeding_of,
    verdicts,
)
from isogloss.errors import InvalidInput


def swept(
    k: float, fvu: float, seed: int = 0, *, site: str = "s", kind: str = "topk", l0: float = 0
) -> SweptDictionary:
    return SweptDictionary(
        key=CellKey(site, kind, 64, float(k)),
        seed=seed,
        l0=float(l0 or k),
        fvu=fvu,
        dead_fraction=0.0,
        rows=1000,
    )


def test_seeds_of_one_cell_are_averaged_in_logarithms() -> None:
    (cell, other) = cells_of([swept(8, 0.1, 0), swept(16, 0.05), swept(8, 0.4, 1)])
    assert (cell.seeds, cell.fvu, other.seeds) == (2, pytest.approx(0.2), 1)


def test_one_seed_each_says_nothing_of_reseeding() -> None:
    every = [swept(8, 0.2), swept(16, 0.1)]
    assert reseeding_of(every) is None
    assert verdicts(cells_of(every), None) == ["unknown", "unknown"]


def test_the_deviation_is_pooled_over_cells_of_other_means() -> None:
    drawn = np.random.default_rng(0).normal(0, 0.02, (40, 3))
    every = [
        swept(8 + n, float(np.exp(-n / 10 + drawn[n, seed])), seed)
        for n in range(40)
        for seed in range(3)
    ]
    found = reseeding_of(every)
    assert found is not None
    assert found.degrees == 80
    assert found.deviation == pytest.approx(0.02, rel=0.2)


def test_cells_of_one_law_are_told_apart_in_five_of_a_hundred_tries() -> None:
    draw, apart = np.random.default_rng(1), 0
    for _ in range(1000):
        errors = np.exp(draw.normal(0, 0.05, (2, 2)))
        every = [swept(8 + n, float(errors[n, seed]), seed) for n in range(2) for seed in range(2)]
        reseeding = reseeding_of(every)
        assert reseeding is not None
        a, b = cells_of(every)
        apart += reseeding.compare(a, b) != "not distinguishable"
    assert 0.03 < apart / 1000 < 0.07


def test_what_differs_by_far_more_than_seeds_do_is_told_apart() -> None:
    every = [
        swept(8, 0.30, 0),
        swept(8, 0.301, 1),
        swept(8, 0.1, 0, kind="gated"),
        swept(8, 0.101, 1, kind="gated"),
    ]
    reseeding = reseeding_of(every)
    assert reseeding is not None
    gated, topk = cells_of(every)
    assert reseeding.compare(gated, topk) == "lower"
    assert verdicts([gated, topk], reseeding) == ["not distinguishable", "higher"]


def test_a_cell_is_compared_within_its_site_at_no_more_features_a_row() -> None:
    every = [swept(8, 0.3, s) for s in (0, 1)] + [swept(32, 0.05, s) for s in (0, 1)]
    every += [swept(4, 0.001, s, site="t") for s in (0, 1)]
    every[1] = swept(8, 0.301, 1)
    assert verdicts(cells_of(every), reseeding_of(every)) == ["not distinguishable"] * 3


def test_an_error_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="FVU of"):
        cells_of([swept(8, 0.0)])
