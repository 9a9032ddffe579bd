"""Which axes of a site's output are sequences and tokens: told by sizes, never assumed.

An output of 4 sequences of 6 tokens and width 8 is ``[4, 6, 8]``, or ``[6, 4, 8]`` time first, or
``[4, 8, 6]`` channels first, or ``[4, heads, 6, 8]``. Where sizes are equal, several readings are
possible, and another pass with other sizes decides between them. Where a pass read several tables
of ids, such as those of an encoder and a decoder, the sizes tell in the same way which of them the
output is of.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from torch import Tensor, nn, strided

from isogloss.errors import InvalidInput, ShapeError
from isogloss.models.passes.axes.tables import Places
from isogloss.models.passes.ids.stacks import is_of_library

Axes = tuple[int, int]
"""Axis of the sequences and axis of the tokens."""

BATCH_FIRST: Axes = (0, 1)

_CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.LazyConv1d, nn.BatchNorm1d, nn.GroupNorm,
)  # fmt: skip
_WIDTH_LAST = (
    nn.Embedding, nn.MultiheadAttention, nn.RNNBase, nn.Transformer, nn.TransformerEncoder,
    nn.TransformerDecoder, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sized:
    """Token ids that an output may be of, by their sizes."""

    sequences: int
    """How many there are."""
    tokens: int
    """In each sequence, padding counted."""
    source: str | None = None
    """Which ids they are; None: there are no others."""
    is_turned: bool = False
    """Whether the model was given them time first."""
    places: Places | None = None
    """On which axes of the output they are, where they were followed to it."""
    is_other: bool = False
    """Whether the output is certainly of other ids, of those that it may be of."""


_Reading = tuple[str | None, bool, Axes]
"""A way to read an output: of which ids, whether these are time first, and on which axes."""


class Layout:
    """What the passes so far tell about the axes of one site, and about the ids it is of."""

    def __init__(self, name: str, module: nn.Module, fixed: Axes | None = None) -> None:
        """Begin without knowledge.

        Args:
            name: of the site, for messages.
            module: the model that the site is in, or the site's submodule.
            fixed: the axes, where the user says them.
        """
        self._name = name
        self._fixed = fixed
        self._is_width_last = width_is_last(module, name)
        self._left: frozenset[_Reading] | None = None
        self._last_sizes: set[int] = set()
        self._is_followed = False

    @property
    def is_open(self) -> bool:
        """Whether passes of equal sizes may still leave several ways to read the output."""
        return self._left is None or len(self._left) > 1

    def see(self, shape: Sequence[int], sequences: int, tokens: int) -> None:
        """Learn from the sizes of one output, of ids beside which there are no others.

        Raises:
            ShapeError: no axes fit, or none that earlier passes allow.
        """
        self.see_any(shape, [Sized(sequences=sequences, tokens=tokens)])

    def see_any(self, shape: Sequence[int], ids: Sequence[Sized]) -> None:
        """Learn from the sizes of one output.

        Args:
            shape: of the output.
            ids: those that it may be of.

        Raises:
            ShapeError: no axes fit, or none that earlier passes allow.
        """
        possible = self._possible(shape, ids)
        wanted = " or ".join(
            f"[sequences {one.sequences}, tokens {one.tokens}, width]" for one in dict.fromkeys(ids)
        )
        if not possible:
            longer = len(shape) > 2 and shape[0] == ids[0].sequences and shape[1] > ids[0].tokens
            remedy = "pad the texts to as many tokens, or choose" if longer else "choose"
            raise ShapeError(
                f"site {self._name!r} gives {list(shape)}, wanted {wanted}; {remedy} another "
                "submodule"
            )
        left = self._allowed(possible)
        if not left:
            axes = sorted({axes for _, _, axes in self._left or ()})
            raise ShapeError(
                f"site {self._name!r} gives {list(shape)}, wanted {wanted} on the axes of earlier "
                f"passes {axes}; rows of those may be wrong, choose another submodule"
            )
        self._left = left
        self._last_sizes.add(shape[-1])
        self._is_followed |= _are_followed(possible, ids)

    def axes(self, shape: Sequence[int], sequences: int, tokens: int) -> Axes | None:
        """Return the axes of an output that was seen, of ids beside which there are no others.

        Returns:
            The axes; None: several are possible, and they differ.

        Raises:
            ShapeError: none of the axes that are still possible fits.
        """
        found = self.choose(shape, [Sized(sequences=sequences, tokens=tokens)])
        return None if found is None else found[1]

    def choose(self, shape: Sequence[int], ids: Sequence[Sized]) -> tuple[int, Axes] | None:
        """Return which ids an output that was seen is of, and its axes.

        Args:
            shape: of the output.
            ids: those that it may be of.

        Returns:
            The place among ``ids``, and the axes; None: several are possible, and they differ.

        Raises:
            ShapeError: nothing that is still possible fits.
        """
        left = self._allowed(self._possible(shape, ids))
        places = {(one.source, one.is_turned): i for i, one in enumerate(ids)}
        found = {
            (place, axes)
            for source, is_turned, axes in left
            for (name, turn), place in places.items()
            if turn == is_turned and (name == source or None in (name, source))
        }
        if not found:
            raise ShapeError(
                f"site {self._name!r} gives {list(shape)} on other axes in another pass; choose "
                "another submodule"
            )
        is_one = len({(place, _order(shape, axes)) for place, axes in found}) == 1
        return min(found) if is_one and self._is_confirmed(shape, min(found)[1]) else None

    def _is_confirmed(self, shape: Sequence[int], axes: Axes) -> bool:
        """Return whether texts or tokens that seem to be last were seen in two sizes there.

        Mostly the last axis is the width, which may be as large by chance where the output has no
        row for each token.
        """
        last = len(shape) - 1
        is_last = last in axes and shape[last] > 1 and self._fixed is None
        return not is_last or self._is_followed or len(self._last_sizes) > 1

    def _allowed(self, possible: frozenset[_Reading]) -> frozenset[_Reading]:
        """Return what earlier passes leave; what had no others tells axes alone."""
        if self._left is None:
            return possible
        return frozenset(
            (one or other, turned, axes)
            for one, turned, axes in possible
            for other, was_turned, were in self._left
            if turned == was_turned and axes == were and (one == other or None in (one, other))
        )

    def _possible(self, shape: Sequence[int], ids: Sequence[Sized]) -> frozenset[_Reading]:
        if len(shape) < 3:
            return frozenset()
        last = 2 if self._is_width_last and len(shape) == 3 else -1
        found = frozenset(
            (one.source, one.is_turned, (i, j))
            for one in ids
            for i, first in enumerate(shape)
            for j, second in enumerate(shape)
            if i != j and (first, second) == (one.sequences, one.tokens)
            if last not in (i, j)
        )
        if self._fixed is not None:
            return frozenset(way for way in found if way[2] == self._fixed)
        others = {(one.source, one.is_turned) for one in ids if one.is_other}
        places = _places(ids)
        followed = {
            way for way in found if way[:2] not in others and _fits(way[2], places[way[:2]])
        }
        return frozenset(followed or found)


def width_is_last(module: nn.Module, name: str) -> bool:
    """Return whether a site's numbers of a token certainly stand on the last axis.

    Torch's own attention, recurrent and embedding modules say so; so do the layers of models of
    transformers, unless there is a convolution in them: those work on ``[.., width, tokens]``.

    Args:
        module: the model.
        name: path of the site; where there is no such path, the module is the site.
    """
    parts = name.split(".")
    path = [module]
    for part in parts:
        inside = path[-1]._modules.get(part)
        if inside is None:
            path = [module]
            break
        path.append(inside)
    if isinstance(path[-1], _WIDTH_LAST):
        return True
    if not any(is_of_library(one) for one in path):
        return False
    layer = next(
        (inside for outer, inside in pairwise(path) if isinstance(outer, nn.ModuleList)), path[-1]
    )
    return not any(isinstance(child, _CONVOLUTIONS) for child in layer.modules())


def _places(ids: Sequence[Sized]) -> dict[tuple[str | None, bool], Places | None]:
    return {(one.source, one.is_turned): one.places for one in ids}


def _are_followed(possible: Iterable[_Reading], ids: Sequence[Sized]) -> bool:
    """Return whether all ways to read an output are those to which its ids were followed."""
    places = _places(ids)
    found = ((way[2], places[way[:2]]) for way in possible)
    return all(place is not None and _fits(axes, place) for axes, place in found)


def _fits(axes: Axes, places: Places | None) -> bool:
    """Return whether axes are those on which ids were followed to an output."""
    return places is None or all(
        place in (None, axis) for axis, place in zip(axes, places, strict=True)
    )


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


def unresolved(
    name: str, shape: Sequence[int], ids: Sequence[Sized], names: Sequence[str] = ()
) -> ShapeError:
    """Return the error for a site of which no pass has told how it is read.

    Args:
        name: of the site.
        shape: of its output.
        ids: those that it may be of.
        names: what these are called.
    """
    sizes = " or ".join(
        f"{sequences} sequences of {tokens} tokens"
        for sequences, tokens in dict.fromkeys((one.sequences, one.tokens) for one in ids)
    )
    if len(names) > 1:
        return ShapeError(
            f"site {name!r} gives {list(shape)} for {sizes}: which token ids its rows are of "
            f"cannot be told, those of {' or of '.join(map(repr, names))}; run a batch in which "
            "these have other lengths than each other, give the model just the ids that its "
            "embedding reads, or record a part of it that reads one text alone"
        )
    return ShapeError(
        f"site {name!r} gives {list(shape)} for {sizes}: which "
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
    if output.layout != strided:
        raise InvalidInput(
            f"site {name!r} gives a tensor of layout {output.layout}; wanted a dense one, choose "
            "another submodule"
        )
    if not output.is_floating_point() or output.is_meta:
        raise InvalidInput(
            f"site {name!r} gives {output.dtype} {list(output.shape)} on {output.device}; wanted "
            "floating-point numbers, choose another submodule"
        )
    return output
