"""Measure, for tests and benchmarks, how well an order mixes rows and how small rows can be."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from isogloss.store.schema.recording_spec import Rows


def design_effect(values: Rows, orders: Iterable[NDArray[np.int64]], batch_rows: int) -> float:
    """Return the variance of the mean of a batch over that of as many independent rows.

    With batches drawn at random without replacement it is 1 (Cochran, Sampling Techniques, 1977,
    theorem 2.2, summed over the dimensions); rows of one document in one batch make it larger.

    Args:
        values: all rows, ``[rows, width]``.
        orders: rows in the order of training, one or several epochs.
        batch_rows: rows that follow one another in an order and form a batch.

    Returns:
        The quotient.
    """
    numbers = values.astype(np.float32)
    mean = numbers.mean(axis=0, dtype=np.float64)
    variance = float(numbers.var(axis=0, dtype=np.float64).sum())
    independent = variance / batch_rows * (len(values) - batch_rows) / (len(values) - 1)
    squares = [
        float(np.square(numbers[rows].mean(axis=0, dtype=np.float64) - mean).sum())
        for order in orders
        for rows in order[: len(order) // batch_rows * batch_rows].reshape(-1, batch_rows)
    ]
    return float(np.mean(squares)) / independent


def buffer_order(rows: int, chance: np.random.Generator, size: int) -> NDArray[np.int64]:
    """Return the order of a buffer filled in order, of which each time a random half is served."""
    half = size // 2
    held = np.empty(0, np.int64)
    served: list[NDArray[np.int64]] = []
    for start in range(0, rows, half):
        held = chance.permutation(np.append(held, np.arange(start, min(rows, start + half))))
        if len(held) > half:
            served.append(held[:half])
            held = held[half:]
    return np.concatenate([*served, held])


def file_order(rows: int, chance: np.random.Generator, size: int) -> NDArray[np.int64]:
    """Return the order of files read in random order, each shuffled in itself."""
    starts = chance.permutation(np.arange(0, rows, size))
    return np.concatenate([chance.permutation(np.arange(s, min(rows, s + size))) for s in starts])


def plane_bound(values: Rows) -> float:
    """Return how many times smaller a code makes rows that knows how often each byte occurs.

    It knows that apart for each byte of a number, as after a byte shuffle, and nothing of the bytes
    around (Shannon 1948: the entropy of order 0 of each plane).
    """
    item_bytes = values.dtype.itemsize
    bits = 0.0
    for plane in np.ascontiguousarray(values).view(np.uint8).reshape(-1, item_bytes).T:
        share = np.bincount(plane, minlength=256) / len(plane)
        bits -= float((share[share > 0] * np.log2(share[share > 0])).sum())
    return 8 * item_bytes / bits
