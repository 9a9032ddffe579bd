"""A power law is found again in what was made of it; its intervals cover as often as they say."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from isogloss.dictionaries.experiments.frontier import CellKey, SweptDictionary
from isogloss.dictionaries.experiments.scaling import fit_scaling
from isogloss.errors import InvalidInput


def law(features: float, k: float, rows: float) -> float:
    return 40 * features**-0.25 * k**-0.6 * rows**-0.15


def made(
    noise: Callable[[], float], rows: tuple[int, ...] = (10_000, 40_000)
) -> list[SweptDictionary]:
    return [
        SweptDictionary(
            key=CellKey("s", "topk", features, float(k)),
            seed=0,
            l0=float(k),
            fvu=law(features, k, count) * float(np.exp(noise())),
            dead_fraction=0.0,
            rows=count,
        )
        for features, k, count in product((512, 1024, 4096), (8, 16, 64), rows)
    ]


def test_an_exact_law_is_found_exactly() -> None:
    found = fit_scaling(made(lambda: 0.0))
    wanted = {"features": -0.25, "k": -0.6, "rows": -0.15}
    assert {name: one.value for name, one in found.exponents.items()} == pytest.approx(wanted)
    predicted = found.predict(features=2048.0, k=32.0, rows=20_000.0)
    assert predicted.value == pytest.approx(law(2048, 32, 20_000))
    assert found.degrees == 18 - 4


def test_an_axis_of_one_value_is_not_in_the_law() -> None:
    assert [*fit_scaling(made(lambda: 0.0, (10_000,))).exponents] == ["features", "k"]


def test_intervals_cover_the_exponent_and_the_next_dictionary_in_95_of_100() -> None:
    draw = np.random.default_rng(0)
    covered, next_one = 0, 0
    for _ in range(1000):
        found = fit_scaling(made(lambda: draw.normal(0, 0.03)))
        covered += found.exponents["k"].low < -0.6 < found.exponents["k"].high
        predicted = found.predict(features=700.0, k=30.0, rows=15_000.0)
        value = law(700, 30, 15_000) * np.exp(draw.normal(0, 0.03))
        next_one += predicted.low < value < predicted.high
    assert 0.93 < covered / 1000 < 0.97
    assert 0.93 < next_one / 1000 < 0.97


def test_what_cannot_be_fitted_is_refused() -> None:
    every = made(lambda: 0.0)
    with pytest.raises(InvalidInput, match="vary in nothing"):
        fit_scaling([])
    with pytest.raises(InvalidInput, match="wanted at least 5"):
        fit_scaling(every[:1] + every[5:7] + every[-1:])
    together = [one for one in every if one.rows == 10_000 and one.key.features == 64 * one.l0]
    together += [
        one for one in every if one.rows == 10_000 and (one.key.features, one.l0) == (512, 8)
    ]
    with pytest.raises(InvalidInput, match="cannot be told apart"):
        fit_scaling(together * 2)
