"""Gradients of an encoder whose choice of features is held fixed, ragged."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from isogloss.kernels.codes import Codes
from isogloss.kernels.gradients import feature_sums
from isogloss.kernels.reconstruct import decode, with_values


def hold_choice(codes: Codes, x: Tensor, weight: Tensor, bias: Tensor) -> Codes:
    """The same codes, their values differentiable in what they were encoded from.

    With the choice of entries held fixed a value is ``<x[row], weight[feature]> + bias[feature]``.
    Nothing is attached when no gradient is wanted.

    Args:
        codes: ragged, without zeros, as encoded from the rest.
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
    """
    wants = x.requires_grad or weight.requires_grad or bias.requires_grad
    if not (torch.is_grad_enabled() and wants):
        return codes
    return with_values(codes, _HeldChoice.apply(x, weight, bias, codes))


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
        codes: Codes = with_values(ctx.codes, grad.float().contiguous())  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        needs: tuple[bool, ...] = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue] (autograd sets it)
        to_x = decode(codes, weight.detach()).to(x.dtype) if needs[0] else None
        to_weight = to_bias = None
        if needs[1] or needs[2]:
            sums, totals = feature_sums(codes, x)
            to_weight = sums.to(weight.dtype)
            to_bias = totals.to(ctx.bias_dtype)  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        return to_x, to_weight, to_bias, None
