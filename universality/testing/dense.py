"""Dense codes and their correlations in plain numpy, as the reference for tests."""

import numpy as np
from numpy.typing import NDArray


def dense_codes(
    seed: int, rows: int = 200, features: int = 30, density: float = 0.15
) -> NDArray[np.float64]:
    """Return random codes that are float32 values, ``[rows, features]``.

    Args:
        seed: the codes are a pure function of it and of the shape.
        rows: how many rows.
        features: how many features.
        density: share of the rows on which a feature fires.

    Returns:
        ``[rows, features]``, float64.
    """
    generator = np.random.default_rng(seed)
    values = generator.random((rows, features)).astype(np.float32).astype(np.float64)
    return values * (generator.random((rows, features)) < density)


def dense_correlations(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the Pearson correlation of all columns in two passes; 0 where one is constant.

    Args:
        a: ``[rows, features_a]``.
        b: ``[rows, features_b]``.

    Returns:
        ``[features_a, features_b]``.
    """
    a, b = a - a.mean(0, dtype=np.float64), b - b.mean(0, dtype=np.float64)
    norm = np.outer(np.sqrt((a**2).sum(0)), np.sqrt((b**2).sum(0)))
    return np.divide(a.T @ b, norm, out=np.zeros_like(norm), where=norm > 1e-12)
