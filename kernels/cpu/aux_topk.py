"""encode_topk_aux on the CPU: two selections from each chunk of the same pre-activations."""

import torch
from torch import Tensor

from isogloss.kernels.cpu.loops.chunks import chunks
from isogloss.kernels.cpu.loops.listed import BestListed
from isogloss.kernels.cpu.loops.select import fill_topk, merge_all
from isogloss.kernels.values.workspace import Workspace


def encode_topk_aux(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: int,
    candidates: Tensor,
    aux_k: int,
    workspace: Workspace,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Encode rows twice from one set of pre-activations: with all features, and with some only.

    The CPU path of :func:`isogloss.kernels.encode_topk_aux`.

    Args:
        x: ``[rows, width]``.
        weight: encoder directions, ``[features, width]``.
        bias: ``[features]``.
        k: entries a row of the first set of codes, which may use all features.
        candidates: the features that the second set of codes may use, int32, ascending.
        aux_k: entries a row of the second set.
        workspace: scratch memory to reuse between calls.

    Returns:
        Values (float32) and feature numbers (int32) of the first set, ``[rows, k]`` each, then
        those of the second set, ``[rows, aux_k]`` each.
    """
    rows, count = x.shape[0], candidates.numel()
    values, aux_values = torch.zeros(rows, k), torch.zeros(rows, aux_k)
    indices = torch.empty(rows, k, dtype=torch.int32)
    aux_places = torch.zeros(rows, aux_k, dtype=torch.int32)  # among the candidates, until the end
    every = torch.arange(count, dtype=torch.int32)
    listed = BestListed(candidates, every, aux_values, aux_places)
    for chunk in chunks(x.float(), weight.float(), bias.float(), workspace):
        merge_all(chunk.pre, chunk.size, chunk.start, values[chunk.rows], indices[chunk.rows])
        listed.merge(chunk)
    fill_topk(values, indices)
    fill_topk(aux_values, aux_places)
    return values, indices, aux_values, candidates[aux_places.long()]
