"""Co-activation, dense and in float64, as the reference for tests."""

import torch
from torch import Tensor

from isogloss.kernels.values.codes import Codes


def dense(codes: Codes) -> Tensor:
    """Codes as a float64 matrix ``[rows, features]``."""
    offsets = codes.offsets
    if offsets is None:
        offsets = torch.arange(codes.rows + 1) * codes.k
    rows = torch.repeat_interleave(torch.arange(codes.rows), offsets.diff())
    out = torch.zeros(codes.rows, codes.features, dtype=torch.float64)
    out[rows, codes.indices.reshape(-1).long()] += codes.values.detach().reshape(-1).double()
    return out


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of every column of ``a`` with every column of ``b``; 0 where one is constant."""
    rows = a.shape[0]

    def inverse_spread(columns: Tensor) -> Tensor:
        mean_square = rows * columns.square().sum(0)
        variance = mean_square - columns.sum(0) ** 2
        varies = variance > 1e-12 * mean_square
        return torch.where(varies, variance, 1.0).sqrt().reciprocal() * varies

    covariance = rows * (a.T @ b) - torch.outer(a.sum(0), b.sum(0))
    return (covariance * inverse_spread(b) * inverse_spread(a)[:, None]).clamp(max=1)


def jaccard(a: Tensor, b: Tensor) -> Tensor:
    """Rows on which both columns are not 0 / rows on which either is not; 0 where none is."""
    fires_a, fires_b = (a != 0).double(), (b != 0).double()
    both = fires_a.T @ fires_b
    either = fires_a.sum(0)[:, None] + fires_b.sum(0) - both
    return both / either.clamp(min=1)


def best_partners(scores: Tensor, cofires: Tensor, count: int, least: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest scores above 0 of each row and their columns; ties by lowest column.

    Args:
        scores: ``[features_a, features_b]``.
        cofires: rows on which both are not 0, ``[features_a, features_b]``.
        count: how many.
        least: pairs with fewer ``cofires`` are left out.

    Returns:
        Columns int64, -1 for none, and scores, 0 for none; both ``[features_a, count]``.
    """
    scores = torch.where(cofires >= least, scores.clamp(min=0), 0.0)
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :count]
    best = scores.gather(1, order)
    return torch.where(best > 0, order, -1), best
