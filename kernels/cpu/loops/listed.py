"""The best of each row among some features only, from the chunks that serve all features."""

from typing import NamedTuple

import torch
from torch import Tensor

from isogloss.kernels.cpu.loops.chunks import Chunk
from isogloss.kernels.cpu.loops.select import merge_topk


class BestListed(NamedTuple):
    """The largest pre-activations above 0 of each row, among the features of a list."""

    features: Tensor
    """Which take part, int32 ascending."""
    names: Tensor
    """What each is called in ``indices``, int32 ascending: the features, or their places."""
    values: Tensor
    """``[rows, k]`` float32, descending; 0 where nothing is yet."""
    indices: Tensor
    """``[rows, k]`` int32; any where nothing is yet."""

    def merge(self, chunk: Chunk) -> None:
        """Merge what the next chunk of features offers.

        Args:
            chunk: of features above all those merged before.
        """
        bounds = torch.tensor([chunk.start, chunk.start + chunk.size], dtype=torch.int32)
        first, last = torch.searchsorted(self.features, bounds).tolist()
        if first < last:
            here = torch.stack((self.features[first:last] - chunk.start, self.names[first:last]))
            merge_topk(chunk.pre, here, self.values[chunk.rows], self.indices[chunk.rows])
