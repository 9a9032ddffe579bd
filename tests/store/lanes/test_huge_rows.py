"""Few rows that hold most of the variance are named, with where they stand."""

import numpy as np
import pytest

from isogloss.store import HugeRows
from isogloss.store.lanes.statistics import measure

WIDTH = 32


def rows(count: int = 9600) -> tuple[np.ndarray, np.ndarray]:
    """Normal rows of documents of 128 tokens."""
    values = np.random.default_rng(0).normal(0.2, 1, (count, WIDTH)).astype(np.float32)
    return values, (np.arange(count) % 128).astype(np.uint32)


def huge(values: np.ndarray, positions: np.ndarray) -> HugeRows | None:
    return measure([values[:5000], values[5000:]], WIDTH, [positions[:5000], positions[5000:]]).huge


def test_first_tokens_of_models_without_a_token_for_the_beginning_are_named() -> None:
    values, positions = rows()
    first = positions == 0
    values[first] *= 120
    found = huge(values, positions)
    assert found is not None
    assert found.rows == first.sum() == 75
    assert found.by_position == (75, 0, 0, 0, 0, 0, 0, 0, 0)
    assert found.skip_first == 1
    away = np.square(values - values.mean(0, dtype=np.float64)).sum(1)
    assert found.variance_share == pytest.approx(away[first].sum() / away.sum(), rel=1e-4)
    squares = np.square(values.astype(np.float64)).sum(1)
    assert found.square_share == pytest.approx(squares[first].sum() / squares.sum(), rel=1e-4)
    assert found.row_share == 75 / 9600
    assert found.least_norm <= np.linalg.norm(values[first], axis=1).min()
    assert found.least_norm > np.linalg.norm(values[~first], axis=1).max()


def test_several_first_positions_are_counted_and_all_left_out() -> None:
    values, positions = rows()
    values[positions == 0] *= 100
    values[positions == 2] *= 80
    found = huge(values, positions)
    assert found is not None
    assert found.by_position[:3] == (75, 0, 75)
    assert found.skip_first == 3


def test_huge_rows_in_the_middle_are_no_matter_of_first_positions() -> None:
    values, positions = rows()
    values[positions == 64] *= 100
    found = huge(values, positions)
    assert found is not None
    assert (found.by_position[8], found.skip_first) == (75, 0)


@pytest.mark.parametrize("factor", [1.0, 2.0, 4.0])
def test_rows_that_are_somewhat_larger_hold_no_most_of_it(factor: float) -> None:
    values, positions = rows()
    values[positions == 0] *= factor
    assert huge(values, positions) is None


def test_many_huge_rows_are_not_few() -> None:
    values, positions = rows()
    values[positions < 16] *= 100
    assert huge(values, positions) is None
    assert huge(np.zeros_like(values), positions) is None
    assert huge(values[:0], positions[:0]) is None
