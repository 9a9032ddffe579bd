"""Gradients of a sparse dictionary, summed by feature in a fixed order."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isogloss.kernels import cpu, gpu
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton
from isogloss.kernels.values.codes import Codes, check_codes
from isogloss.short_repr import short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseGradients:
    """Gradients of a loss to the parameters of a dictionary, float32."""

    values: Tensor
    """To the codes' values before their ReLU, shaped as they; 0 where the value is 0."""
    decoder: Tensor
    """``[features, width]``, or ``[touched, width]``."""
    encoder: Tensor
    """``[features, width]``, or ``[touched, width]``."""
    encoder_bias: Tensor
    """``[features]``, or ``[touched]``."""
    features: Tensor | None = None
    """With ``touched_rows_only``: whose rows these are, int64 ``[touched]``, ascending."""

    __repr__ = short_repr


def sparse_gradients(
    codes: Codes, grad: Tensor, x: Tensor, decoder: Tensor, *, touched_rows_only: bool = False
) -> SparseGradients:
    """Compute the gradients of a dictionary's values, decoder, encoder and encoder bias.

    It encodes ``codes = relu(topk(x @ encoder.T + bias))`` and decodes ``xhat = codes @ decoder``.

    With ``d = <grad[row], decoder[f]>`` at every entry whose value is not 0: ``to_decoder[f] = sum
    value * grad[row]``, ``to_encoder[f] = sum d * x[row]``, ``to_bias[f] = sum d``, each in the
    order of the rows: the same bits on every run, with any number of threads and any schedule. No
    floating-point atomics, no ``[entries, width]`` array.

    Args:
        codes: the codes of ``x``.
        grad: gradient of the loss with respect to the reconstruction, ``[rows, width]``.
        x: the rows that were encoded, ``[rows, width]``, after the decoder bias was subtracted if
            it was.
        decoder: ``[features, width]``, contiguous.
        touched_rows_only: return only the rows of features that fire.

    Returns:
        The gradient of each parameter, and of the values of the codes.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: an index is outside ``[0, features)``, or a weight is not finite.
    """
    check_codes(codes, decoder)
    checks.matrix("grad", grad, rows=codes.rows, columns=decoder.shape[1])
    checks.matrix("x", x, rows=codes.rows, columns=decoder.shape[1])
    checks.floating(grad=grad, x=x)
    checks.one_device(values=codes.values, grad=grad, x=x)
    touched = None
    if touched_rows_only:
        touched = torch.unique(codes.indices[codes.values != 0]).long()
    path = gpu.gradients if takes_triton(decoder) else cpu.gradients
    values, to_decoder, to_encoder, to_bias = path.sparse_gradients(
        codes, grad.detach(), x.detach(), decoder.detach(), touched
    )
    return SparseGradients(
        values=values,
        decoder=to_decoder,
        encoder=to_encoder,
        encoder_bias=to_bias,
        features=touched,
    )


def value_slopes(codes: Codes, grad: Tensor, weight: Tensor) -> Tensor:
    """Compute ``<grad[row], weight[feature]>`` of every entry, those of value 0 too.

    Args:
        codes: fixed ``k`` or ragged; only where entries are, not their values.
        grad: ``[rows, width]``.
        weight: ``[features, width]``, contiguous.

    Returns:
        Float32, shaped as the values of the codes.
    """
    path = gpu.gradients if takes_triton(weight) else cpu.gradients
    return path.value_slopes(codes, grad.detach(), weight.detach())


def feature_sums(codes: Codes, x: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over each feature's entries, in the order of the rows: the same bits for any threads.

    Args:
        codes: fixed ``k`` or ragged.
        x: ``[rows, width]``.

    Returns:
        ``sum value * x[row]`` (``[features, width]``) and ``sum value`` (``[features]``), float32.
    """
    path = gpu.gradients if takes_triton(x) else cpu.gradients
    return path.feature_sums(codes, x.detach())
