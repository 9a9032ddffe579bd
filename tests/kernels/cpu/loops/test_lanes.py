"""Dot products by vectors: right for any length and place, in one order, and of nothing else."""

from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError
from numpy.typing import NDArray

from isogloss.kernels.cpu.loops.lanes import dot_of_64
from isogloss.kernels.cpu.loops.sums import dot

LENGTHS = (0, 1, 7, 15, 16, 17, 63, 64, 65, 80, 100, 127, 128, 200, 384, 385, 768, 1000)


def _in_order(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    """Return the sum in the order that the docstrings promise, by numpy."""

    def across(sums: NDArray[np.float32]) -> np.float32:
        while len(sums) > 1:
            sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
        return sums[0]

    whole, even = len(a) - len(a) % 64, len(a) - len(a) % 16
    four, one = np.zeros((4, 16), np.float32), np.zeros(16, np.float32)
    for start in range(0, whole, 64):
        four += (a[start : start + 64] * b[start : start + 64]).reshape(4, 16)
    for start in range(whole, even, 16):
        one += a[start : start + 16] * b[start : start + 16]
    rest = np.float32(0)
    for i in range(even, len(a)):
        rest += a[i] * b[i]
    return across((four[0] + four[1]) + (four[2] + four[3])) + across(one) + rest


@pytest.mark.parametrize("length", LENGTHS)
def test_the_order_of_a_sum_is_the_written_one_wherever_the_rows_begin(length: int) -> None:
    chance = np.random.default_rng(length)
    for start in (0, 1, 3):  # rows of a matrix of odd width lie at any multiple of 4 bytes
        a, b = (chance.standard_normal(length + 8).astype(np.float32)[start:] for _ in range(2))
        a, b = a[:length], b[:length]
        found = np.float32(dot(a, b))
        assert found.tobytes() == _in_order(a, b).tobytes()
        exact = float(np.dot(a.astype(np.float64), b.astype(np.float64)))
        size = float(np.dot(np.abs(a).astype(np.float64), np.abs(b)))
        assert abs(float(found) - exact) <= size * 2.0**-23 * (length / 64 + 10)


def test_nan_and_infinity_stay() -> None:
    a, b = np.ones(100, np.float32), np.ones(100, np.float32)
    a[70] = np.nan
    assert np.isnan(dot(a, b))
    a[70] = np.inf
    assert dot(a, b) == np.inf


@pytest.mark.parametrize("of", ["float64", "strided", "matrix"])
def test_other_arrays_than_rows_of_float32_are_refused_when_compiled(of: str) -> None:
    row = np.ones(128, np.float32)
    wrong: NDArray[Any] = {
        "float64": row.astype(np.float64),
        "strided": np.ones(256, np.float32)[::2],
        "matrix": np.ones((2, 128), np.float32),
    }[of]

    @njit
    def called(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return dot_of_64(a, b, 0, 64)

    assert called(row, row) == 64
    with pytest.raises(TypingError, match="a dot product is of"):
        called(wrong, row)
