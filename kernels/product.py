"""A matrix product whose bits do not depend on the number of threads."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from isogloss.kernels.arguments import checks
from isogloss.kernels.cpu.loops import products


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``left @ right``, and ``bias`` added to each row.

    torch's own product on the CPU cuts long sums between its threads, so its bits depend on how
    many there are. Here sums are cut in fixed places. On a GPU this is torch's product. Gradients,
    and gradients of these, are products of the same sort.

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
    return _Product.apply(left, right, bias)  # pyright: ignore[reportReturnType] (what forward returns)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(left, right)
        return products.product(left, right, bias)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] (torch passes one by one)
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue] (set by save_for_backward)
        needs: tuple[bool, ...] = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue] (autograd sets it)
        return (
            product(grad, right.T) if needs[0] else None,
            product(left.T, grad) if needs[1] else None,
            grad.sum(0) if needs[2] else None,
        )
