"""Codes split by nested prefixes, and the gradients that each part receives (Matryoshka)."""

from functools import lru_cache

import torch
from torch import Tensor

from isogloss.kernels.values.codes import Codes


@lru_cache(maxsize=64)  # prefixes may be drawn anew for each step
def edges_on(edges: tuple[int, ...], device: torch.device) -> Tensor:
    """The lengths of the prefixes on a device, int32; moved there once, not at each call.

    A tensor made from host numbers in a call waits for the copy, and forbids to capture the call.
    """
    with torch.inference_mode(False):
        return torch.tensor(edges, dtype=torch.int32, device=device)


def suffix_sums(grad: Tensor) -> Tensor:
    """Sum the gradients of each prefix and of all longer ones: ``grad[p] + grad[p + 1] + ...``."""
    sums = torch.empty(grad.shape, device=grad.device)
    sums[-1] = grad[-1]
    for place in range(grad.shape[0] - 2, -1, -1):
        torch.add(sums[place + 1], grad[place], out=sums[place])
    return sums


def by_prefix(codes: Codes, edges: tuple[int, ...]) -> tuple[Codes, Tensor]:
    """Split each row of codes into one row for each prefix.

    A prefix is the first so many features, such as the first 64. An entry goes into the row of the
    shortest prefix that contains its feature, so no entry is there twice; entries whose feature is
    in no prefix are left out. The backward pass of :func:`decode_prefixes` uses this: an entry's
    gradient is the sum over all prefixes that contain it, which a plain decode of the split codes
    gives when the row of each prefix gets the summed gradient of that prefix and all longer ones.

    Args:
        codes: fixed ``k`` or ragged.
        edges: the lengths of the prefixes, rising.

    Returns:
        Ragged codes whose row ``p * codes.rows + row`` holds the entries of ``row`` that went to
        prefix ``p``, in the order they had; and for each of their entries its position among all
        entries of ``codes``, int64.
    """
    values, indices = codes.values.detach().reshape(-1), codes.indices.reshape(-1)
    device, rows = values.device, codes.rows
    every = torch.arange(rows, device=device)
    counts = torch.full_like(every, codes.k) if codes.offsets is None else codes.offsets.diff()
    row = torch.repeat_interleave(every, counts, output_size=values.numel())
    prefix = torch.searchsorted(edges_on(edges, device), indices, right=True)
    place, entries = torch.sort(prefix * rows + row, stable=True)
    last = len(edges) * rows
    offsets = torch.searchsorted(place, torch.arange(last + 1, device=device))
    entries = entries[: int(offsets[-1])]
    apart = Codes(
        values=values[entries],
        indices=indices[entries],
        features=codes.features,
        offsets=offsets,
    )
    return apart, entries
