"""sparse_gradients, dense."""

import torch
from torch import Tensor


def sparse_gradients(
    values: Tensor, indices: Tensor, grad: Tensor, x: Tensor, decoder: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of a loss whose gradient to the reconstruction is ``grad``.

    With ``a[row, f]`` the dense codes and ``d = (a != 0) * (grad @ decoder.T)``: values ``d`` at
    the entries, decoder ``a.T @ grad``, encoder ``d.T @ x``, encoder bias the column sums of ``d``.

    Args:
        values: ``[rows, k]``.
        indices: ``[rows, k]``.
        grad: ``[rows, width]``.
        x: the rows that were encoded, ``[rows, width]``.
        decoder: decoder directions, ``[features, width]``.

    Returns:
        Gradients to values, decoder, encoder and encoder bias.
    """
    features = decoder.shape[0]
    dense = torch.zeros(values.shape[0], features, dtype=values.dtype)
    dense.scatter_(1, indices.long(), values)
    slope = (dense != 0) * (grad @ decoder.T)
    return slope.gather(1, indices.long()), dense.T @ grad, slope.T @ x, slope.sum(0)
