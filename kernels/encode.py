"""Sparse encode: from rows to the features that fire on them."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from isogloss.kernels import cpu, gpu
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton
from isogloss.kernels.decode import decode
from isogloss.kernels.gradients import feature_sums
from isogloss.kernels.values.codes import Codes
from isogloss.kernels.values.workspace import Workspace


def encode_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, *, workspace: Workspace | None = None
) -> Codes:
    """Keep the ``k`` largest of ``relu(x @ weight.T + bias)`` of every row, exactly.

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
    checks.encoder(x, weight, bias)
    checks.k_within(k, weight.shape[0])
    inputs = (x.detach(), weight.detach(), bias.detach())
    if takes_triton(x):
        values, indices, _ = gpu.encode.encode_topk(*inputs, k)
    else:
        values, indices = cpu.encode.encode_topk(*inputs, k, workspace or Workspace())
    codes = Codes(values=values, indices=indices, features=weight.shape[0])
    return hold_choice(codes, x, weight, bias)


def hold_choice(codes: Codes, x: Tensor, weight: Tensor, bias: Tensor) -> Codes:
    """Make the values of codes differentiable in what they were encoded from.

    With the choice of entries held fixed a value that is not 0 is
    ``<x[row], weight[feature]> + bias[feature]``; a value of 0 sends no gradient. Nothing is
    attached when no gradient is wanted.

    Args:
        codes: fixed ``k`` or ragged, as encoded from the rest.
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.

    Returns:
        The same entries; where a gradient is wanted their values are part of the graph.
    """
    wants = x.requires_grad or weight.requires_grad or bias.requires_grad
    if not (torch.is_grad_enabled() and wants):
        return codes
    return codes.with_values(_HeldChoice.apply(x, weight, bias, codes))


class _HeldChoice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, codes: Codes) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.codes = codes  # pyright: ignore[reportAttributeAccessIssue] (autograd's place to keep things)
        ctx.bias_dtype = bias.dtype  # pyright: ignore[reportAttributeAccessIssue] (same)
        return codes.values.clone()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] (torch passes one by one)
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue] (set by save_for_backward)
        held: Codes = ctx.codes  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        needs: tuple[bool, ...] = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue] (autograd sets it)
        codes = held.with_values(torch.where(held.values != 0, grad.float(), 0.0))
        to_x = decode(codes, weight.detach()).to(x.dtype) if needs[0] else None
        to_weight = to_bias = None
        if needs[1] or needs[2]:
            sums, totals = feature_sums(codes, x)
            to_weight = sums.to(weight.dtype)
            to_bias = totals.to(ctx.bias_dtype)  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        return to_x, to_weight, to_bias, None
