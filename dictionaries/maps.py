"""Linear maps from the activations of one model to those of another, and dictionaries sent by them.

Two models that read the same text have rows that belong together. A map that is fitted to such rows
takes directions of one model to the other, so that a run can start where another model's ended.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

from isogloss.errors import InvalidInput, NonFiniteRows, ShapeError

MapKind = Literal["ridge", "procrustes"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LinearMap:
    """``y ~ (x - mean) matrix + target_mean``."""

    matrix: NDArray[np.float64]
    """``[width, target_width]``."""
    mean: NDArray[np.float64]
    """Mean of the rows it was fitted to, ``[width]``."""
    target_mean: NDArray[np.float64]
    """Mean of the rows it leads to, ``[target_width]``."""
    explained: float
    """Share of the variance of those rows that it explains, on the rows it was fitted to."""

    def rows(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return where rows are taken, ``[rows, target_width]``."""
        return (rows - self.mean) @ self.matrix + self.target_mean

    def directions(self, decoder: Tensor) -> Tensor:
        """Return where directions are taken, float32 ``[features, target_width]``, of norm 1.

        A direction has no origin, so the means play no part. One that the map takes to 0 stays 0; a
        run that starts there gives it a random direction.

        Raises:
            ShapeError: the directions are of another width.
        """
        if decoder.ndim != 2 or decoder.shape[1] != len(self.matrix):
            raise ShapeError(
                f"directions are {tuple(decoder.shape)}; wanted [features, {len(self.matrix)}]"
            )
        found = decoder.detach().cpu().to(torch.float64).numpy() @ self.matrix
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        unit = found / np.where(norms > 0, norms, 1.0)
        return torch.from_numpy(unit).to(torch.float32)


def fit_map(
    rows: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    kind: MapKind = "ridge",
    penalty: float = 1e-3,
) -> LinearMap:
    """Fit a map to rows that belong together, by least squares about their means.

    - ``ridge``: the matrix M of the least ``|X M - Y|^2 + penalty s |M|^2``, with s the mean
      eigenvalue of ``X^T X``, so that the penalty has no unit.
    - ``procrustes``: the same among ``c Q`` with orthonormal Q (Schoenemann 1966): angles between
      directions are kept. Where the widths differ, Q has orthonormal columns or rows.

    Args:
        rows: ``[rows, width]``, finite.
        target: ``[rows, target_width]``, row by row of the same tokens.
        kind: which.
        penalty: of ridge; Procrustes has none.

    Returns:
        The map.

    Raises:
        ShapeError: the rows are not as many, or not two-dimensional.
        InvalidInput: the kind is unknown, the penalty is not above 0, or rows do not vary.
        NonFiniteRows: a row holds NaN or infinity.
    """
    if rows.ndim != 2 or target.ndim != 2 or len(rows) != len(target):
        raise ShapeError(f"rows are {rows.shape}, target {target.shape}; wanted as many of each")
    if kind not in ("ridge", "procrustes") or not 0 < penalty < np.inf:
        raise InvalidInput(
            f"kind is {kind!r} with penalty {penalty}; wanted ridge or procrustes, penalty above 0"
        )
    x, y = rows.astype(np.float64), target.astype(np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NonFiniteRows("rows to fit a map to hold NaN or infinity; wanted finite activations")
    mean, target_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean, y - target_mean
    if not (x.any() and y.any()):
        raise InvalidInput(f"the {len(x)} rows do not vary; wanted at least two different rows")
    matrix = _ridge(x, y, penalty) if kind == "ridge" else _procrustes(x, y)
    missed = np.square(x @ matrix - y).sum() / np.square(y).sum()
    return LinearMap(matrix=matrix, mean=mean, target_mean=target_mean, explained=float(1 - missed))


def _ridge(x: NDArray[np.float64], y: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += penalty * np.trace(gram) / len(gram)
    return linalg.solve(gram, x.T @ y, assume_a="pos")


def _procrustes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    left, values, right = linalg.svd(x.T @ y, full_matrices=False)
    turned = left @ right
    return turned * (values.sum() / np.square(x @ turned).sum())
