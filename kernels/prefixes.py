"""Matryoshka: reconstructions by nested prefixes of one dictionary."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from isogloss.kernels import cpu, gpu
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton
from isogloss.kernels.gradients import feature_sums, value_slopes
from isogloss.kernels.values.codes import Codes, check_codes
from isogloss.kernels.values.prefixes import by_prefix, suffix_sums


def decode_prefixes(
    codes: Codes, weight: Tensor, prefixes: Sequence[int], bias: Tensor | None = None
) -> Tensor:
    """Reconstruct rows by the first features only, for several such prefixes in one pass.

    ``out[p, row] = bias + sum over its entries with feature < prefixes[p] of value *
    weight[feature]``. Each direction is read once: a longer prefix adds to a shorter one's sum.
    A Matryoshka dictionary is trained on the mean over prefixes of ``||out[p, row] - x[row]||^2``
    (Bussmann et al. 2025, arXiv:2503.17547). Differentiable in ``codes.values``, ``weight`` and
    ``bias``; entries of no prefix get no gradient.

    Args:
        codes: fixed ``k`` or ragged, in any order.
        weight: decoder directions, ``[features, width]``, contiguous; float32, bfloat16 or float16.
        prefixes: numbers of features, rising, each in ``[1, features]``.
        bias: ``[width]``, or None for none.

    Returns:
        ``[prefixes, rows, width]`` in the dtype of ``weight``, summed in float32.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: prefixes do not rise or are outside ``[1, features]``; an index is outside
            ``[0, features)``.
    """
    check_codes(codes, weight)
    edges = checks.rising("prefixes", prefixes, codes.features)
    if bias is not None:
        checks.vector("bias", bias, weight.shape[1])
        checks.floating(bias=bias)
        checks.one_device(weight=weight, bias=bias)
    wants = codes.values.requires_grad or weight.requires_grad
    if torch.is_grad_enabled() and (wants or (bias is not None and bias.requires_grad)):
        return _DecodePrefixes.apply(codes.values, weight, bias, codes, edges)
    return _decode_prefixes(codes.values, weight, bias, codes, edges)


def _decode_prefixes(
    values: Tensor, weight: Tensor, bias: Tensor | None, codes: Codes, edges: tuple[int, ...]
) -> Tensor:
    own = codes.with_values(values.detach())
    offset = None if bias is None else bias.detach()
    path = gpu.prefixes if takes_triton(weight) else cpu.prefixes
    return path.decode_prefixes(own, weight.detach(), edges, offset)


class _DecodePrefixes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        values: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        codes: Codes,
        edges: tuple[int, ...],
    ) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.codes, ctx.edges = codes, edges  # pyright: ignore[reportAttributeAccessIssue] (autograd's place to keep things)
        ctx.bias_dtype = None if bias is None else bias.dtype  # pyright: ignore[reportAttributeAccessIssue] (same)
        return _decode_prefixes(values, weight, bias, codes, edges)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] (torch passes one by one)
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        values, weight = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue] (set by save_for_backward)
        codes: Codes = ctx.codes.with_values(values)  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        edges: tuple[int, ...] = ctx.edges  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        needs: tuple[bool, ...] = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue] (autograd sets it)
        bias_dtype: torch.dtype | None = ctx.bias_dtype  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        received = suffix_sums(grad)
        apart, entries = by_prefix(codes, edges)
        to_values = to_weight = to_bias = None
        if needs[0]:
            slopes = value_slopes(apart, received.flatten(0, 1), weight).to(values.dtype)
            to_values = torch.zeros_like(values).view(-1).index_copy(0, entries, slopes)
            to_values = to_values.view_as(values)
        if needs[1]:
            to_weight = feature_sums(apart, received.flatten(0, 1))[0].to(weight.dtype)
        if needs[2] and bias_dtype is not None:
            to_bias = received[0].sum(0).to(bias_dtype)
        return to_values, to_weight, to_bias, None, None
