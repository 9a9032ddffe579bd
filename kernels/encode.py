"""Sparse encode: from rows to the features that fire on them."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from isogloss.kernels import checks
from isogloss.kernels.codes import Codes
from isogloss.kernels.dispatch import takes_triton
from isogloss.kernels.workspace import Workspace


def encode_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, *, workspace: Workspace | None = None
) -> Codes:
    """The ``k`` largest of ``relu(x @ weight.T + bias)`` of every row, exactly.

    Entries are ordered by (value descending, feature ascending), so ties are deterministic. Where
    fewer than ``k`` features are positive the rest are the lowest other features, with value 0.
    NaN ranks above infinity. Differentiable in ``x``, ``weight`` and ``bias`` (the choice of
    features is held fixed). See Gao et al. 2024 (arXiv:2406.04093).

    Args:
        x: ``[rows, width]``; float32, bfloat16 or float16.
        weight: encoder directions, ``[features, width]``, contiguous.
        bias: ``[features]``.
        k: entries a row, in ``[1, features]``.
        workspace: scratch memory to reuse between calls.

    Returns:
        Codes with float32 values ``[rows, k]``. The pre-activations are summed in float32.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: ``k`` is not in ``[1, features]``, or ``weight`` or ``bias`` holds NaN or
            infinity (searched once for each version of a tensor; on a device not where they are
            being trained, outside of debug mode).
    """
    _check(x, weight, bias, k)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        values, indices = _EncodeTopk.apply(x, weight, bias, k, workspace)
    else:
        values, indices = _encode_topk(x, weight, bias, k, workspace)
    return Codes(values=values, indices=indices, features=weight.shape[0])


def _check(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> None:
    checks.matrix("x", x)
    checks.matrix("weight", weight, columns=x.shape[1])
    checks.vector("bias", bias, weight.shape[0])
    checks.floating(x=x, weight=weight, bias=bias)
    checks.one_device(x=x, weight=weight, bias=bias)
    checks.contiguous(weight=weight)
    checks.k_within(k, weight.shape[0])
    checks.finite(weight=weight, bias=bias)


def _encode_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, workspace: Workspace | None
) -> tuple[Tensor, Tensor]:
    if takes_triton(x):
        from isogloss.kernels.gpu.encode import encode_topk as by_triton

        return by_triton(x.detach(), weight.detach(), bias.detach(), k)[:2]
    from isogloss.kernels.cpu.encode import encode_topk as on_cpu

    return on_cpu(x.detach(), weight.detach(), bias.detach(), k, workspace or Workspace())


class _EncodeTopk(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        k: int,
        workspace: Workspace | None,
    ) -> tuple[Tensor, Tensor]:
        values, indices = _encode_topk(x, weight, bias, k, workspace)
        ctx.save_for_backward(x, weight, values, indices)
        ctx.mark_non_differentiable(indices)
        ctx.dtypes = (x.dtype, weight.dtype, bias.dtype)  # pyright: ignore[reportAttributeAccessIssue] (autograd's place to keep things)
        return values, indices

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] (torch passes one by one)
        ctx: FunctionCtx, grad: Tensor, _: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        from isogloss.kernels.gradients import feature_sums
        from isogloss.kernels.reconstruct import decode

        x, weight, values, indices = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue] (set by save_for_backward)
        slope = torch.where(values != 0, grad.float(), 0.0)
        codes = Codes(values=slope, indices=indices, features=weight.shape[0])
        to_weight, to_bias = feature_sums(codes, x)
        of_x, of_weight, of_bias = ctx.dtypes  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        to_x = decode(codes, weight).to(of_x)
        return to_x, to_weight.to(of_weight), to_bias.to(of_bias), None, None
