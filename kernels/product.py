"""A matrix product whose bits do not depend on the number of threads."""

import torch
from torch import Tensor

from isogloss.kernels.arguments import checks
from isogloss.kernels.cpu.loops import products


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``left @ right``, and ``bias`` added to each row.

    torch's own product on the CPU cuts long sums between its threads, so its bits depend on how
    many there are. Here sums are cut in fixed places. On a GPU this is torch's product.

    Args:
        left: float32 ``[rows, terms]``.
        right: float32 ``[terms, columns]``.
        bias: float32 ``[columns]``; None: 0.

    Returns:
        Float32 ``[rows, columns]``, contiguous.

    Raises:
        ShapeError: a shape, dtype or device does not fit.
    """
    checks.matrix("left", left)
    checks.matrix("right", right, rows=left.shape[1])
    given = {"left": left, "right": right}
    if bias is not None:
        checks.vector("bias", bias, right.shape[1])
        given["bias"] = bias
    for name, tensor in given.items():
        checks.exactly(name, tensor, torch.float32)
    checks.one_device(**given)
    if left.device.type != "cpu":
        return left @ right if bias is None else torch.addmm(bias, left, right)
    with torch.no_grad():
        return products.product(left, right, bias)
