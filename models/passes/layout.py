"""Which axes of a site's output are sequences and tokens: told by sizes, never assumed.

An output of 4 sequences of 6 tokens and width 8 is ``[4, 6, 8]``, or ``[6, 4, 8]`` time first, or
``[4, 8, 6]`` channels first, or ``[4, heads, 6, 8]``. Where sizes are equal, several readings are
possible, and another pass with other sizes decides between them. Sequences are the first or the
second axis: nothing known puts them further behind.
"""

import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from isogloss.errors import InvalidInput, ShapeError

Axes = tuple[int, int]
"""Axis of the sequences and axis of the tokens."""

BATCH_FIRST: Axes = (0, 1)

_CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.LazyConv1d, nn.BatchNorm1d, nn.GroupNorm,
)  # fmt: skip


class Layout:
    """What the passes so far tell about the axes of one site."""

    def __init__(self, name: str, module: nn.Module, fixed: Axes | None = None) -> None:
        """Begin without knowledge.

        Args:
            name: of the site, for messages.
            module: the site's submodule.
            fixed: the axes, where the user says them.
        """
        self._name = name
        self._fixed = fixed
        self._keeps_order = not any(isinstance(child, _CONVOLUTIONS) for child in module.modules())
        self._left: frozenset[Axes] | None = None

    def see(self, shape: Sequence[int], sequences: int, tokens: int) -> None:
        """Learn from the sizes of one output.

        Raises:
            ShapeError: no axes fit, or none that earlier passes allow.
        """
        possible = self._possible(shape, sequences, tokens)
        wanted = f"wanted [sequences {sequences}, tokens {tokens}, width]"
        if not possible:
            longer = len(shape) > 2 and shape[0] == sequences and shape[1] > tokens
            remedy = "pad the texts to as many tokens, or choose" if longer else "choose"
            raise ShapeError(
                f"site {self._name!r} gives {list(shape)}, {wanted}; {remedy} another submodule"
            )
        left = possible if self._left is None else self._left & possible
        if not left:
            raise ShapeError(
                f"site {self._name!r} gives {list(shape)}, {wanted} on the axes of earlier passes "
                f"{sorted(self._left or ())}; rows of those may be wrong, choose another submodule"
            )
        self._left = left

    def axes(
        self, shape: Sequence[int], sequences: int, tokens: int, *, probable: bool = True
    ) -> Axes | None:
        """Return the axes of an output that was seen.

        Args:
            shape: of the output.
            sequences: how many there are.
            tokens: in each sequence, padding counted.
            probable: whether to take ``[sequences, tokens, width]`` where only width and tokens are
                equal, and nothing in the submodule swaps them.

        Returns:
            The axes; None: several are possible, and they differ.

        Raises:
            ShapeError: none of the axes that are still possible fits.
        """
        left = self._possible(shape, sequences, tokens)
        left = left if self._left is None else left & self._left
        if not left:
            raise ShapeError(
                f"site {self._name!r} gives {list(shape)} on other axes in another pass; choose "
                "another submodule"
            )
        if len({_order(shape, axes) for axes in left}) == 1:
            return min(left)
        is_probable = probable and len(shape) == 3 and sequences != tokens and self._keeps_order
        return BATCH_FIRST if is_probable and BATCH_FIRST in left else None

    def _possible(self, shape: Sequence[int], sequences: int, tokens: int) -> frozenset[Axes]:
        if len(shape) < 3:
            return frozenset()
        found = frozenset(
            (i, j)
            for i, first in enumerate(shape)
            for j, second in enumerate(shape)
            if i < 2 and i != j and (first, second) == (sequences, tokens)
        )
        return found if self._fixed is None else found & {self._fixed}


def _order(shape: Sequence[int], axes: Axes) -> tuple[int, ...]:
    """Return the axes in the order of rows, without those of size 1: they change nothing."""
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    return tuple(axis for axis in (*axes, *rest) if shape[axis] != 1)


def batch_first(output: Tensor, axes: Axes) -> Tensor:
    """Return an output as ``[sequences, tokens, width]``: the axes in front, the others flat."""
    return (output if axes == BATCH_FIRST else output.movedim(axes, BATCH_FIRST)).flatten(2)


def own_length(module: nn.Module, tokens: int) -> int:
    """Return how many tokens a model works on that pads texts by itself, behind their end.

    Those of transformers that do (Longformer, LED, PEGASUS-X) say in their configuration how long
    their windows or blocks are.

    Args:
        module: the model.
        tokens: in each text, padding counted.
    """
    told: list[int] = []
    for name in ("attention_window", "block_size"):
        size: object = getattr(getattr(module, "config", None), name, None)
        sizes = cast("list[object]", size) if isinstance(size, list) else [size]
        told += [one for one in sizes if isinstance(one, int) and one > 0]
    most = max(told, default=1)
    return -(-tokens // most) * most


def without_own_padding(output: Tensor, sequences: int, tokens: int, own: int) -> Tensor:
    """Return an output without the tokens that the model put behind the texts by itself.

    Args:
        output: of a site.
        sequences: how many there are.
        tokens: in each sequence, as they were given.
        own: how many the model works on.
    """
    is_longer = output.ndim == 3 and output.shape[:2] == (sequences, own) and own > tokens
    return output[:, :tokens] if is_longer else output


def unresolved(name: str, shape: Sequence[int], sequences: int, tokens: int) -> ShapeError:
    """Return the error for a site whose axes no pass has told."""
    return ShapeError(
        f"site {name!r} gives {list(shape)} for {sequences} sequences of {tokens} tokens: which "
        'axis is which cannot be told; pass layout="batch_first" if it is [sequences, tokens, '
        "width], or run batches of another size or length"
    )


def width_of(shape: Sequence[int], sequences: int, tokens: int) -> int:
    """Return the numbers per token, whichever axes the sequences and tokens are."""
    return math.prod(shape) // max(1, sequences * tokens)


def numbers(output: Tensor, name: str) -> Tensor:
    """Return a site's output if it is one plain tensor of numbers.

    Of a distributed tensor that each process has whole, the part here is returned.

    Raises:
        InvalidInput: it holds no floating-point numbers, or only a part of them, or none.
    """
    parts, to_local = getattr(output, "placements", None), getattr(output, "to_local", None)
    if parts is not None and to_local is not None:
        if not all(part.is_replicate() for part in parts):
            raise InvalidInput(
                f"site {name!r} gives a distributed tensor of which this process has a part; "
                "choose a submodule whose output is gathered"
            )
        return cast("Tensor", to_local())
    if output.is_nested:
        raise InvalidInput(
            f"site {name!r} gives a nested tensor, which has no sizes; pad the texts to one length"
        )
    if not output.is_floating_point() or output.is_meta:
        raise InvalidInput(
            f"site {name!r} gives {output.dtype} {list(output.shape)} on {output.device}; wanted "
            "floating-point numbers, choose another submodule"
        )
    return output
