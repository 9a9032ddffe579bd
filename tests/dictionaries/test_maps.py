"""Maps between models: a planted one is found, and scipy's own answers agree."""

from typing import Literal

import numpy as np
import pytest
import torch
from scipy import linalg

from isogloss.dictionaries.maps import fit_map
from isogloss.errors import InvalidInput, NonFiniteRows, ShapeError

DRAW = np.random.default_rng(0)
ROWS = DRAW.standard_normal((500, 6)) + 3.0
TURN = np.asarray(linalg.qr(DRAW.standard_normal((6, 6)))[0])


@pytest.mark.parametrize("kind", ["ridge", "procrustes"])
def test_a_turn_and_a_shift_are_found(kind: Literal["ridge", "procrustes"]) -> None:
    target = 2.5 * ROWS @ TURN - 7.0
    found = fit_map(ROWS, target, kind=kind, penalty=1e-9)
    assert found.matrix == pytest.approx(2.5 * TURN, abs=1e-6)
    assert found.rows(ROWS) == pytest.approx(target, abs=1e-5)
    assert found.explained == pytest.approx(1.0)
    directions = torch.eye(6)
    taken = found.directions(directions)
    assert taken.numpy() == pytest.approx(TURN, abs=1e-5)


def test_procrustes_is_that_of_scipy_and_keeps_angles() -> None:
    target = ROWS @ DRAW.standard_normal((6, 6)) + DRAW.standard_normal((500, 6))
    found = fit_map(ROWS, target, kind="procrustes")
    x, y = ROWS - ROWS.mean(0), target - target.mean(0)
    turned, _ = linalg.orthogonal_procrustes(x, y)
    size = np.linalg.norm(found.matrix) / np.linalg.norm(turned)
    assert found.matrix == pytest.approx(size * turned)
    for other in (0.99 * size, 1.01 * size):
        assert np.square(x @ found.matrix - y).sum() < np.square(x @ (other * turned) - y).sum()


@pytest.mark.parametrize("width", [4, 9])
def test_widths_may_differ(width: int) -> None:
    target = ROWS @ DRAW.standard_normal((6, width))
    ridge, turned = fit_map(ROWS, target), fit_map(ROWS, target, kind="procrustes")
    assert ridge.explained > 0.99
    assert turned.matrix.shape == (6, width)
    short = turned.matrix @ turned.matrix.T if width > 6 else turned.matrix.T @ turned.matrix
    assert short / short[0, 0] == pytest.approx(np.eye(len(short)), abs=1e-9)


def test_more_columns_than_rows_are_fitted_by_ridge() -> None:
    found = fit_map(ROWS[:4], ROWS[:4] * 2, penalty=1e-2)
    assert np.isfinite(found.matrix).all()
    assert 0.9 < found.explained < 1


def test_a_direction_that_is_taken_to_nothing_stays_nothing() -> None:
    found = fit_map(ROWS, ROWS[:, :1])
    assert not found.directions(torch.zeros(2, 6)).any()


def test_what_cannot_be_mapped_is_refused() -> None:
    with pytest.raises(ShapeError, match="as many of each"):
        fit_map(ROWS, ROWS[:-1])
    with pytest.raises(InvalidInput, match="penalty 0"):
        fit_map(ROWS, ROWS, penalty=0.0)
    with pytest.raises(InvalidInput, match="do not vary"):
        fit_map(np.ones((5, 2)), ROWS[:5])
    with pytest.raises(NonFiniteRows, match="NaN"):
        fit_map(np.where(ROWS > 5, np.nan, ROWS), ROWS)
    with pytest.raises(ShapeError, match=r"\[features, 6\]"):
        fit_map(ROWS, ROWS).directions(torch.ones(2, 5))
