"""Codes of a batch whose rows several processes share out, put together from their parts.

Each process encodes its own part of the rows and hands the entries it found to the others, so that
all go on with the codes of the whole batch. The choice over a batch is made before: what is handed
out is what was chosen, and nothing else.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from isogloss.errors import ShapeError
from isogloss.kernels.values.codes import Codes

_EVEN = 16
_DIGITS, _DIGIT_BITS, _VALUES = 4, 8, 256


@runtime_checkable
class RowShare(Protocol):
    """What processes tell one another that take a step together; all call the same in one order."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def world(self) -> int:
        """Number of processes."""
        ...

    def together(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the tensors of all processes, one behind the other along their first dimension.

        Args:
            own: of this process, ``[sizes[rank], ...]``.
            sizes: first dimension of each.
        """
        ...

    def total(self, own: Tensor) -> Tensor:
        """Return the sum of an int64 tensor over the processes."""
        ...


def parts_of(rows: int, world: int) -> list[slice]:
    """Return the rows that each process encodes: ascending, even, cut at multiples of 16.

    The last ones may have fewer rows, or none. The GEMM fills rows up to multiples of 16, so cuts
    there add none.
    """
    step = -(-rows // (world * _EVEN)) * _EVEN
    return [slice(min(rows, n * step), min(rows, (n + 1) * step)) for n in range(world)]


def own_part(rows: int, share: RowShare | None) -> slice:
    """Return the rows that this process encodes; all where there is no other process."""
    return slice(0, rows) if share is None else parts_of(rows, share.world)[share.rank]


def whole_codes(codes: Codes, share: RowShare | None, rows: int) -> Codes:
    """Return the codes of all rows, of those of each process's part.

    Args:
        codes: of the part of this process, ``k`` a row or ragged, float32.
        share: the processes; None: the codes are whole.
        rows: rows of the batch.

    Raises:
        ShapeError: the codes are of other rows than the part's.
    """
    if share is None:
        return codes
    sizes = [part.stop - part.start for part in parts_of(rows, share.world)]
    if codes.rows != sizes[share.rank]:
        raise ShapeError(f"there are codes of {codes.rows} rows; wanted {sizes[share.rank]}")
    if codes.offsets is None:
        both = torch.cat((codes.values.view(torch.int32), codes.indices), 1)
        found = share.together(both, sizes)
        return Codes(
            values=found[:, : codes.k].contiguous().view(torch.float32),
            indices=found[:, codes.k :].contiguous(),
            features=codes.features,
        )
    counts = share.together(codes.offsets.diff().int(), sizes)
    entries = [int(part.sum()) for part in counts.split(sizes)]
    both = torch.stack((codes.values.view(torch.int32), codes.indices), 1)
    found = share.together(both, entries)
    offsets = torch.zeros(rows + 1, dtype=torch.int64, device=codes.values.device)
    offsets[1:] = counts.cumsum(0)
    return Codes(
        values=found[:, 0].contiguous().view(torch.float32),
        indices=found[:, 1].contiguous(),
        features=codes.features,
        offsets=offsets,
    )


def best_codes(codes: Codes, share: RowShare, wanted: int, rows: int) -> tuple[Codes, Tensor]:
    """Return the best entries of all processes, and the smallest value among them.

    The choice is that over one batch: by (value descending, row, feature). The smallest value is
    found bit by bit, from histograms of eight bits that are added up over the processes; entries
    equal to it are taken from the first rows on.

    Args:
        codes: ragged and canonical, of the part of this process: at least its share of the best,
            all above 0 (or NaN, which ranks above infinity).
        share: the processes.
        wanted: how many entries to take; all where there are fewer.
        rows: rows of the batch.

    Returns:
        The codes of all rows, and the smallest value, float32 without dimensions; 0 where there is
        no entry.
    """
    keys = codes.values.view(torch.int32)
    if int(share.total(torch.tensor([keys.numel()], device=keys.device))) > wanted:
        last, room = _last(keys, share, wanted)
        ties = (keys == last).nonzero().squeeze(1)
        every = share.together(torch.tensor([ties.numel()], device=keys.device), [1] * share.world)
        room = max(0, room - int(every[: share.rank].sum()))
        kept = keys > last
        kept[ties[:room]] = True
        codes = _only(codes, kept)
    found = whole_codes(codes, share, rows)
    smallest = found.values.view(torch.int32)
    least = smallest.min() if smallest.numel() else smallest.new_zeros(())
    return found, least.view(torch.float32)


def _last(keys: Tensor, share: RowShare, wanted: int) -> tuple[int, int]:
    """Return the ``wanted``-th largest key over all processes, and how many of its equals to take.

    Keys are bits of floats that are not negative, and order as these do.
    """
    prefix, room = 0, wanted
    for digit in reversed(range(_DIGITS)):
        shift = digit * _DIGIT_BITS
        here = keys[(keys >> shift) >> _DIGIT_BITS == prefix] if digit < _DIGITS - 1 else keys
        values = (here >> shift) & (_VALUES - 1)
        counts = share.total(torch.bincount(values, minlength=_VALUES)).flip(0)
        reaching = counts.cumsum(0)
        place = int((reaching >= room).nonzero()[0, 0])
        room -= int(reaching[place] - counts[place])
        prefix = (prefix << _DIGIT_BITS) | (_VALUES - 1 - place)
    return prefix, room


def _only(codes: Codes, kept: Tensor) -> Codes:
    """Return ragged codes with the entries that are marked."""
    if codes.offsets is None:
        raise ShapeError("codes have k entries a row; ragged ones are wanted")
    before = torch.zeros(kept.numel() + 1, dtype=torch.int64, device=kept.device)
    before[1:] = kept.cumsum(0)
    return Codes(
        values=codes.values[kept],
        indices=codes.indices[kept],
        features=codes.features,
        offsets=before[codes.offsets],
    )
