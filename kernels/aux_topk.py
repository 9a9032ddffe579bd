"""Two code sets from one encode: the best features, and the best of those under a mask (AuxK)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from isogloss.errors import InvalidInput
from isogloss.kernels import cpu, gpu
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton
from isogloss.kernels.decode import decode
from isogloss.kernels.gradients import feature_sums
from isogloss.kernels.values.codes import Codes
from isogloss.kernels.values.workspace import Workspace
from isogloss.short_repr import short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class AuxCodes:
    """Two sets of codes of the same rows: of all features, and of some of them."""

    codes: Codes
    """The best ``k`` of all features."""
    aux: Codes
    """The best ``aux_k`` of the features under the mask; their indices count all features."""

    __repr__ = short_repr


def encode_topk_aux(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: int,
    mask: Tensor,
    aux_k: int,
    *,
    workspace: Workspace | None = None,
) -> AuxCodes:
    """Encode with all features, and with those under ``mask``, from the same pre-activations.

    The pre-activations ``x @ weight.T + bias`` are computed once, and the dense
    ``[rows, features]`` never exists. Both sets are exact, ordered by (value descending, feature
    ascending). Where fewer than ``aux_k`` features under the mask are positive the rest are the
    lowest others under it, with value 0. With the dead features as the mask these are the codes of
    AuxK (Gao et al. 2024, arXiv:2406.04093, appendix A.2). Differentiable as ``encode_topk`` is.
    The mask is counted once for each version of it: after that a call waits for no device.

    Args:
        x: ``[rows, width]``; float32, bfloat16 or float16.
        weight: encoder directions, ``[features, width]``, contiguous.
        bias: ``[features]``.
        k: entries a row, in ``[1, features]``.
        mask: bool ``[features]``: the features that the second set may use.
        aux_k: entries a row of the second set, in ``[1, features under the mask]``.
        workspace: scratch memory to reuse between calls.

    Returns:
        Both sets of codes, float32 values ``[rows, k]`` and ``[rows, aux_k]``.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: ``k`` or ``aux_k`` is not as above, or a weight is not finite.
    """
    checks.encoder(x, weight, bias)
    checks.k_within(k, weight.shape[0])
    checks.vector("mask", mask, weight.shape[0])
    checks.exactly("mask", mask, torch.bool)
    checks.one_device(x=x, mask=mask)
    checks.whole(aux_k=aux_k)
    count = checks.under_mask(mask)
    if not 1 <= aux_k <= count:
        raise InvalidInput(
            f"aux_k is {aux_k}; it must be in [1, {count}], the number of features under the mask"
        )
    # sorted, as a device knows no place of a list whose length it must first find
    candidates = torch.sort(~mask, stable=True).indices[:count].to(torch.int32)
    return encode_among(x, weight, bias, k, candidates, aux_k, workspace)


def encode_among(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: int,
    candidates: Tensor,
    aux_k: int,
    workspace: Workspace | None,
) -> AuxCodes:
    """:func:`encode_topk_aux` without its checks.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.
        k: entries a row of the first set.
        candidates: the features under the mask, int32 ascending.
        aux_k: entries a row of the second set, at most as many as there are candidates.
        workspace: scratch memory to reuse between calls.

    Returns:
        Both sets of codes.
    """
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        found = _EncodeTopkAux.apply(x, weight, bias, k, candidates, aux_k, workspace)
    else:
        found = _encode_topk_aux(x, weight, bias, k, candidates, aux_k, workspace)
    main, aux = (
        Codes(values=values, indices=indices, features=weight.shape[0])
        for values, indices in (found[:2], found[2:])
    )
    return AuxCodes(codes=main, aux=aux)


_Found = tuple[Tensor, Tensor, Tensor, Tensor]
"""Values and indices of the first set, values and indices of the second."""


def _encode_topk_aux(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: int,
    candidates: Tensor,
    aux_k: int,
    workspace: Workspace | None,
) -> _Found:
    rows, matrix, offsets = x.detach(), weight.detach(), bias.detach()
    if takes_triton(x):
        return gpu.aux_topk.encode_topk_aux(rows, matrix, offsets, k, candidates, aux_k)[0]
    return cpu.aux_topk.encode_topk_aux(
        rows, matrix, offsets, k, candidates, aux_k, workspace or Workspace()
    )


class _EncodeTopkAux(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        k: int,
        candidates: Tensor,
        aux_k: int,
        workspace: Workspace | None,
    ) -> _Found:
        found = _encode_topk_aux(x, weight, bias, k, candidates, aux_k, workspace)
        ctx.save_for_backward(x, weight, *found)
        ctx.mark_non_differentiable(found[1], found[3])
        ctx.dtypes = (x.dtype, weight.dtype, bias.dtype)  # pyright: ignore[reportAttributeAccessIssue] (autograd's place to keep things)
        return found

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] (torch passes one by one)
        ctx: FunctionCtx, grad: Tensor, _: Tensor | None, aux_grad: Tensor, __: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, weight, values, indices, aux_values, aux_indices = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue] (set by save_for_backward)
        held = torch.cat((values, aux_values), dim=1)
        slope = torch.where(held != 0, torch.cat((grad, aux_grad), dim=1).float(), 0.0)
        places = torch.cat((indices, aux_indices), dim=1)
        codes = Codes(values=slope, indices=places, features=weight.shape[0])
        to_weight, to_bias = feature_sums(codes, x)
        of_x, of_weight, of_bias = ctx.dtypes  # pyright: ignore[reportAttributeAccessIssue] (set in forward)
        to_x = decode(codes, weight).to(of_x)
        return to_x, to_weight.to(of_weight), to_bias.to(of_bias), None, None, None, None
