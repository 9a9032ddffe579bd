"""Views of a tensor at a hook: which part of it a site is, and how the part is put back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class View:
    """A part of a tensor, and the way back."""

    get: Callable[[Tensor], Tensor]
    """From the whole tensor to the part."""
    put: Callable[[Tensor, Tensor], Tensor]
    """From the whole tensor and a new part to a new whole one; both stay as they are."""

    def then(self, inner: "View") -> "View":
        """Return the view of a part of this part."""
        return View(
            get=lambda whole: inner.get(self.get(whole)),
            put=lambda whole, new: self.put(whole, inner.put(self.get(whole), new)),
        )


def split_heads(heads: int, width: int) -> View:
    """Return the view of ``[batch, tokens, heads * width]`` as ``[batch, tokens, heads, width]``.

    Args:
        heads: how many there are.
        width: numbers of a head.
    """

    def get(whole: Tensor) -> Tensor:
        return cast("Tensor", whole.unflatten(-1, (heads, width)))

    return View(
        get=get,
        put=lambda whole, new: new.reshape(whole.shape),
    )


def block(start: int, stop: int) -> View:
    """Return the view of the numbers ``[start, stop)`` of the last axis."""
    return _narrowed(-1, slice(start, stop))


def one_of(axis: int, index: int) -> View:
    """Return the view of one index of an axis; the axis is gone in it."""
    return _narrowed(axis, index)


def interleaved(heads: int, width: int, which: int) -> View:
    """Return queries (0), keys (1) or values (2) of a projection ``[.., heads * 3 * width]``.

    GPT-NeoX and BLOOM keep the three of a head side by side.

    Args:
        heads: how many there are.
        width: numbers of a head's queries.
        which: 0, 1 or 2.
    """
    cut = _narrowed(-1, slice(which * width, (which + 1) * width))
    return split_heads(heads, 3 * width).then(cut)


def _narrowed(axis: int, index: int | slice) -> View:
    def place(whole: Tensor) -> tuple[int | slice, ...]:
        before = axis % whole.ndim
        return (*[slice(None)] * before, index)

    def put(whole: Tensor, new: Tensor) -> Tensor:
        made = whole.clone(memory_format=torch.contiguous_format)
        made[place(whole)] = new
        return made

    return View(get=lambda whole: whole[place(whole)], put=put)
