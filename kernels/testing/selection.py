"""A model in plain torch of the kernels that follow the GEMM in the fused encoder.

It takes many rows at once, where the interpreter takes milliseconds a row. A test compares the
model with the kernels, row by row: the same codes, the same rows flagged.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from isogloss.kernels.gpu.configs import EncodeConfig
from isogloss.kernels.gpu.dealing import dealing

_NAN = 0x7FC00000
_LAST = 0x7FFFFFFF


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The codes of some rows, and how they were found."""

    values: Tensor
    """float32 ``[rows, k]``."""
    indices: Tensor
    """int32 ``[rows, k]``."""
    visible: Tensor
    """int32 ``[rows, k]``: the indices before the repair."""
    hiding: Tensor
    """bool ``[rows, programs]``: all of whose candidates were selected, so that it may hide one."""

    @property
    def repaired(self) -> Tensor:
        """bool ``[rows]``."""
        return self.hiding.any(1)


def select(pre: Tensor, k: int, config: EncodeConfig) -> Selection:
    """Choose, certify and repair, from pre-activations that a GEMM would have made.

    Args:
        pre: ``[rows, features]`` float32, contiguous.
        k: entries of a row, at most ``features``.
        config: how many features a program takes, and how many candidates it keeps.

    Returns:
        The codes, and which rows were repaired.
    """
    rows, features = pre.shape
    programs = -(-features // (config.columns * config.tiles))
    entries = _entries(pre, programs)
    kept = min(config.kept, entries.shape[1])
    candidates = entries.topk(kept, dim=1).values
    first = _best(candidates.reshape(rows, -1), k)
    hiding = candidates[:, -1] >= first[:, -1:].clamp(min=1)
    if kept < config.kept or config.kept >= config.columns * config.tiles:
        hiding = torch.zeros_like(hiding)
    best = first.clone()
    again = hiding.any(1)
    if bool(again.any()):
        kept_entries = torch.where(hiding[again][:, None], -1, candidates[again])
        opened = torch.where(hiding[again][:, None], entries[again], -1)
        best[again] = _best(torch.cat((kept_entries, opened), 1).reshape(int(again.sum()), -1), k)
    values, indices = _codes(best)
    return Selection(values=values, indices=indices, visible=_codes(first)[1], hiding=hiding)


def exact(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` best of ``relu(pre)`` by (value descending, feature ascending)."""
    return _codes(_best(_entries(pre, 1).reshape(pre.shape[0], -1), k))


def _entries(pre: Tensor, programs: int) -> Tensor:
    """int64 ``[rows, places, programs]``: larger is a larger value, then a lower feature."""
    rows, features = pre.shape
    keys = torch.where(pre <= 0, 0.0, pre).view(torch.int32)
    keys = torch.where(pre.isnan(), _NAN, keys).long()
    packed = (keys << 32) | (_LAST - torch.arange(features))
    packed = torch.where(keys > 0, packed, -1)
    order = dealing(features, programs)
    packed = torch.nn.functional.pad(packed, (0, order.numel() - features), value=-1)
    return packed[:, order.flatten()].view(rows, *order.shape)


def _best(entries: Tensor, k: int) -> Tensor:
    short = max(0, k - entries.shape[1])
    return torch.nn.functional.pad(entries, (0, short), value=-1).topk(k, dim=1).values


def _codes(best: Tensor) -> tuple[Tensor, Tensor]:
    """Values and indices; places without a value get 0 and the lowest features not held."""
    held = best >= 0
    values = torch.where(held, best >> 32, 0).int().view(torch.float32)
    indices = torch.where(held, _LAST - (best & _LAST), -1)
    for row in (~held[:, -1]).nonzero().flatten().tolist():
        taken = set(indices[row][held[row]].tolist())
        free = (feature for feature in range(2 * best.shape[1]) if feature not in taken)
        for place in (~held[row]).nonzero().flatten().tolist():
            indices[row, place] = next(free)
    return values, indices.int()
