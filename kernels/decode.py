"""Decode: from the features that fire on a row back to the width of the model.

Read this operation first: every other one has the same form. The public function checks its
arguments and asks the device of its tensors which kernels to take; ``cpu/decode.py`` and
``gpu/decode.py`` hold the kernels, ``reference/decode.py`` the same mathematics in plain torch, and
``tests/kernels/test_decode.py`` compares them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from isogloss.kernels import cpu, gpu
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton
from isogloss.kernels.gradients import feature_sums, value_slopes
from isogloss.kernels.values.codes import Codes, check_codes
from isogloss.short_repr import short_repr


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
        InvalidInput: an index is outside ``[0, features)``, or a weight is not finite.
    """
    check_codes(codes, weight)
    _check_bias(bias, weight)
    wants = codes.values.requires_grad or weight.requires_grad
    if torch.is_grad_enabled() and (wants or (bias is not None and bias.requires_grad)):
        return _Decode.apply(codes.values, weight, bias, codes)
    return _decode(codes.values, weight, bias, codes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Residual:
    """The rest of the rows after reconstruction, and its norms."""

    residual: Tensor
    """Reconstruction less target, float32 ``[rows, width]``; half the gradient of its square."""
    squared_norms: Tensor
    """Squared norm of each row of it, float32 ``[rows]``."""

    __repr__ = short_repr


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

    Returns:
        The residual of every row, and its squared norm.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: an index is outside ``[0, features)``, or a weight is not finite.
    """
    check_codes(codes, weight)
    checks.matrix("target", target, rows=codes.rows, columns=weight.shape[1])
    checks.floating(target=target)
    checks.one_device(weight=weight, target=target)
    _check_bias(bias, weight)
    path = gpu.decode if takes_triton(weight) else cpu.decode
    squares, residual = path.decode_loss(
        codes.with_values(codes.values.detach()),
        weight.detach(),
        None if bias is None else bias.detach(),
        target.detach(),
    )
    return Residual(residual=residual, squared_norms=squares)


def _check_bias(bias: Tensor | None, weight: Tensor) -> None:
    if bias is not None:
        checks.vector("bias", bias, weight.shape[1])
        checks.floating(bias=bias)
        checks.one_device(weight=weight, bias=bias)


def _decode(values: Tensor, weight: Tensor, bias: Tensor | None, codes: Codes) -> Tensor:
    path = gpu.decode if takes_triton(weight) else cpu.decode
    offset = None if bias is None else bias.detach()
    return path.decode(codes.with_values(values.detach()), weight.detach(), offset)


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
        values, weight = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue] (set by save_for_backward)
        codes: Codes = ctx.codes.with_values(values)  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        needs: tuple[bool, ...] = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue] (autograd sets it)
        bias_dtype: torch.dtype | None = ctx.bias_dtype  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        to_values = value_slopes(codes, grad, weight).to(values.dtype) if needs[0] else None
        to_weight = feature_sums(codes, grad)[0].to(weight.dtype) if needs[1] else None
        to_bias = None
        if needs[2] and bias_dtype is not None:
            to_bias = grad.float().sum(0).to(bias_dtype)
        return to_values, to_weight, to_bias, None
