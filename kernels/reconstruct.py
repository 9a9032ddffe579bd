"""Sparse decode: from the features that fire on a row back to the width of the model."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from isogloss.kernels import checks
from isogloss.kernels.codes import Codes
from isogloss.kernels.debug_mode import reads_content
from isogloss.kernels.dispatch import takes_triton


def decode(codes: Codes, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Reconstruct rows: ``out[row] = bias + sum over its entries of value * weight[feature]``.

    Differentiable in ``codes.values``, ``weight`` and ``bias``.

    Args:
        codes: fixed ``k`` or ragged.
        weight: decoder directions, ``[features, width]``, contiguous; float32, bfloat16 or float16.
        bias: ``[width]``, or None for none.

    Returns:
        ``[rows, width]`` in the dtype of ``weight``, summed in float32.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: an index is outside ``[0, features)``.
    """
    check_codes(codes, weight)
    if bias is not None:
        _check_bias(bias, weight)
    wants = codes.values.requires_grad or weight.requires_grad
    if torch.is_grad_enabled() and (wants or (bias is not None and bias.requires_grad)):
        return _Decode.apply(codes.values, weight, bias, codes)
    return _decode(codes.values, weight, bias, codes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Residual:
    """What is left of rows after reconstruction."""

    residual: Tensor
    """Reconstruction less target, float32 ``[rows, width]``; half the gradient of its square."""
    squared_norms: Tensor
    """Squared norm of each row of it, float32 ``[rows]``."""


def decode_loss(
    codes: Codes, weight: Tensor, target: Tensor, bias: Tensor | None = None
) -> Residual:
    """Reconstruct rows, subtract the target and square in one pass; the residual is written once.

    Not differentiable: ``residual`` times ``2 / scale`` is the gradient that ``sparse_gradients``
    takes.

    Args:
        codes: fixed ``k`` or ragged.
        weight: decoder directions, ``[features, width]``, contiguous; float32, bfloat16 or float16.
        target: ``[rows, width]``; float32, bfloat16 or float16.
        bias: ``[width]``, or None for none.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: an index is outside ``[0, features)``.
    """
    check_codes(codes, weight)
    checks.matrix("target", target, rows=codes.rows, columns=weight.shape[1])
    checks.floating(target=target)
    checks.one_device(weight=weight, target=target)
    if bias is not None:
        _check_bias(bias, weight)
    own, matrix, aim = with_values(codes, codes.values.detach()), weight.detach(), target.detach()
    offset = None if bias is None else bias.detach()
    if takes_triton(weight):
        from isogloss.kernels.gpu.decode import decode_loss as by_triton

        squares, residual = by_triton(own, matrix, offset, aim)
    else:
        from isogloss.kernels.cpu.gradients import decode_loss as on_cpu

        squares, residual = on_cpu(own, matrix, offset, aim)
    return Residual(residual=residual, squared_norms=squares)


def check_codes(codes: Codes, weight: Tensor) -> None:
    """Raise unless the codes belong to a dictionary with that decoder."""
    checks.matrix("weight", weight, rows=codes.features)
    checks.floating(values=codes.values, weight=weight)
    checks.one_device(values=codes.values, indices=codes.indices, weight=weight)
    checks.contiguous(weight=weight)
    checks.finite(weight=weight)
    if reads_content(weight):  # on a device that stops the queue: in debug mode only
        checks.indices_within(codes.indices, codes.features)
        if codes.offsets is not None:
            checks.offsets_within(codes.offsets, codes.values.numel())


def _check_bias(bias: Tensor, weight: Tensor) -> None:
    checks.vector("bias", bias, weight.shape[1])
    checks.floating(bias=bias)
    checks.one_device(weight=weight, bias=bias)


def _decode(values: Tensor, weight: Tensor, bias: Tensor | None, codes: Codes) -> Tensor:
    own = with_values(codes, values.detach())
    offset = None if bias is None else bias.detach()
    if takes_triton(weight):
        from isogloss.kernels.gpu.decode import decode as by_triton

        return by_triton(own, weight.detach(), offset)
    from isogloss.kernels.cpu.gradients import decode as on_cpu

    return on_cpu(own, weight.detach(), offset).to(weight.dtype)


def with_values(codes: Codes, values: Tensor) -> Codes:
    """The same entries with other values."""
    return Codes(
        values=values, indices=codes.indices, features=codes.features, offsets=codes.offsets
    )


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, values: Tensor, weight: Tensor, bias: Tensor | None, codes: Codes
    ) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.codes = codes  # pyright: ignore[reportAttributeAccessIssue] (autograd's place to keep things)
        ctx.bias_dtype = None if bias is None else bias.dtype  # pyright: ignore[reportAttributeAccessIssue] (same)
        return _decode(values, weight, bias, codes)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] (torch passes one by one)
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        from isogloss.kernels.gradients import feature_sums, value_slopes

        values, weight = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue] (set by save_for_backward)
        codes: Codes = with_values(ctx.codes, values)  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        needs: tuple[bool, ...] = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue] (autograd sets it)
        bias_dtype: torch.dtype | None = ctx.bias_dtype  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        to_values = value_slopes(codes, grad, weight).to(values.dtype) if needs[0] else None
        to_weight = feature_sums(codes, grad)[0].to(weight.dtype) if needs[1] else None
        to_bias = None
        if needs[2] and bias_dtype is not None:
            to_bias = grad.float().sum(0).to(bias_dtype)
        return to_values, to_weight, to_bias, None
