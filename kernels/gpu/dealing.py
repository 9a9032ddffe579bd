# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportAttributeAccessIssue=false
# (triton compiles these functions from the arguments they meet; pyright sees plain Python)
"""Which features a program of the encoder takes: they are dealt by a hash.

The features are cut into blocks of ``programs`` consecutive ones. Each program takes one feature of
each block, which one is turned by a hash of the block's number:

    feature(program, place) = place * programs + (program + hash(place)) mod programs

So a program's features ascend with their place, every feature has one program, and programs differ
by one feature at most.

*Layouts that do not know the hash.* Neighbours never meet in a program, so dictionaries ordered by
frequency or by prefix crowd none. Features a fixed distance apart, such as heads or families tiled
in a block structure, meet as often as chance has it. Dealt by stride, without the hash, all
features that are equal modulo the number of programs met in one: with such families 99.9 % of the
rows had to be repaired.

*The worst layout.* A fixed hash can be known, and the winners put into one program. What that can
cost is bounded. Let a program keep ``m`` candidates of a row, the best by (value descending,
feature ascending), and let it hide only if its last one is among the ``k`` selected. Then all its
``m`` are, and no entry is selected twice, so **at most k // m programs hide on a row**, whatever
the values, ties and layout. Let ``n_p`` be the number of rows on which program ``p`` hides: the sum
of all ``n_p`` is at most ``rows * (k // m)``. A repair computes the tiles of program ``p`` for
those rows alone, ``R`` rows together, so ``ceil(n_p / R)`` times; plainly it was ``ceil(rows / R)``
times. Over all programs that is at most

    sum ceil(n_p / R)  <=  sum (n_p / R + 1)  <=  rows * (k // m) / R  +  programs

against ``programs * ceil(rows / R)`` in the first pass, and never more than that pass itself.
So the repair adds at most the share ``(k // m) / programs + R / rows`` of the first pass, and at
most 1. ``gpu/configs.py`` keeps ``k / programs <= m / 2`` in its table (``<= 1`` with 8 kept): with
k = 32 of 24,576 features, 32 programs and 4,096 rows the bound is 0.16.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B
_MASK = (1 << 32) - 1


def dealt(place: Tensor, program: Tensor | int, programs: int) -> Tensor:
    """Give the feature at a place of a program; at or beyond the last feature there is none.

    Args:
        place: int64, of any shape.
        program: int64, or one number; they broadcast.
        programs: how many programs share the features.

    Returns:
        int64.
    """
    mixed = ((place ^ (place >> 16)) * _FIRST) & _MASK
    mixed = ((mixed ^ (mixed >> 15)) * _SECOND) & _MASK
    turn = ((mixed ^ (mixed >> 16)) * programs) >> 32
    return place * programs + (program + turn) % programs


def dealing(features: int, programs: int) -> Tensor:
    """List the features of every program by their place.

    Args:
        features: number of features.
        programs: how many programs share them.

    Returns:
        int64 ``[places, programs]``; numbers from ``features`` on stand for none.
    """
    place = torch.arange(-(-features // programs))
    return dealt(place[:, None], torch.arange(programs), programs)


def program_of(features: int, programs: int) -> Tensor:
    """Tell which program takes each feature: int64 ``[features]``."""
    order = dealing(features, programs)
    owner = torch.empty(order.numel(), dtype=torch.int64)
    owner[order.flatten()] = torch.arange(programs).repeat(order.shape[0])
    return owner[:features]


@triton.jit
def _dealt(place, program, programs):
    """The kernels' :func:`dealt`: int32 places and programs, int64 features."""
    mixed = place.to(tl.uint32)
    mixed = (mixed ^ (mixed >> 16)) * 0x7FEB352D
    mixed = (mixed ^ (mixed >> 15)) * 0x846CA68B
    mixed = mixed ^ (mixed >> 16)
    # the upper half of a product is one instruction, a remainder twenty
    at = program + tl.umulhi(mixed, tl.cast(programs, tl.uint32)).to(tl.int32)
    at = tl.where(at >= programs, at - programs, at)
    return place.to(tl.int64) * programs + at
