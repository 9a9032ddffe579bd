"""Matrix products by torch's GEMM whose bits do not depend on the number of threads.

MKL cuts the sums of a product between its threads where there is little else to share out: of 191
random shapes with sums of 256 to 8,192 terms, 98 had other bits with 2, 4 or 8 threads than with
one, up to 1,936 x 96 numbers of 917 terms each and 48 x 14,656 of 3,590. So sums are cut here, and
the number of threads has no say: into 256 terms (no such difference in 3,810 random shapes), or
into 384 where a million numbers and more are made, the terms that MKL takes at a time anyway: those
cost nothing (0.99 to 1.00 of the whole product's time), and 256 cost 4 to 7 %.

Rows and columns of ``out`` are multiples of 16, by zeros where need be: with odd shapes the ends of
what each thread is given are rounded in other ways.
"""

import torch
from torch import Tensor

_EVEN = 16
_TERMS = 256
_TERMS_OF_MANY = 384
_MANY = 1 << 20


def even(number: int) -> int:
    """Return the next multiple of 16."""
    return -(-number // _EVEN) * _EVEN


def filled(matrix: Tensor, out: Tensor) -> Tensor:
    """Return ``out``: a matrix or vector, with zeros behind its rows and columns."""
    rows = matrix.shape[0]
    out[rows:] = 0.0
    if matrix.ndim == 1:
        out[:rows] = matrix
        return out
    columns = matrix.shape[1]
    out[:rows, :columns] = matrix
    out[:rows, columns:] = 0.0
    return out


def multiply(left: Tensor, right: Tensor, out: Tensor, bias: Tensor | None = None) -> None:
    """Fill ``out`` with ``left @ right``, and ``bias`` added to each row.

    Args:
        left: float32 ``[rows, terms]``.
        right: float32 ``[terms, columns]``.
        out: float32 ``[rows, columns]``, contiguous, both multiples of 16; overwritten.
        bias: float32 ``[columns]``; None: 0.
    """
    terms = _terms(out)
    if bias is None:
        torch.mm(left[:, :terms], right[:terms], out=out)
    else:
        torch.addmm(bias, left[:, :terms], right[:terms], out=out)
    for start in range(terms, left.shape[1], terms):
        out.addmm_(left[:, start : start + terms], right[start : start + terms])


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """``isogloss.kernels.product`` on the CPU."""
    rows, columns = left.shape[0], right.shape[1]
    out = torch.empty(even(rows), even(columns))
    if rows % _EVEN:
        left = filled(left, torch.empty(even(rows), left.shape[1]))
    if columns % _EVEN:
        right = filled(right, torch.empty(right.shape[0], even(columns)))
        bias = None if bias is None else filled(bias, torch.empty(even(columns)))
    multiply(left, right, out, bias)
    return out[:rows, :columns].contiguous()


def _terms(out: Tensor) -> int:
    return _TERMS_OF_MANY if out.numel() >= _MANY else _TERMS
