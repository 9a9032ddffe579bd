"""encode_topk_aux: two dense encodes."""

from torch import Tensor

from isogloss.kernels.reference.encode import encode_topk


def encode_topk_aux(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, mask: Tensor, aux_k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Encode with all features, and once more with those under ``mask`` alone.

    Args:
        x: ``[rows, width]``.
        weight: encoder directions, ``[features, width]``.
        bias: ``[features]``.
        k: entries a row of the first set.
        mask: bool ``[features]``, the features that the second set may use.
        aux_k: entries a row of the second set.

    Returns:
        values and indices of the first set, ``[rows, k]`` each, then those of the second set,
        ``[rows, aux_k]`` each. Indices are int64 and count all features.
    """
    values, indices = encode_topk(x, weight, bias, k)
    at = mask.nonzero().squeeze(1)
    aux_values, places = encode_topk(x, weight[at], bias[at], aux_k)
    return values, indices, aux_values, at[places]
