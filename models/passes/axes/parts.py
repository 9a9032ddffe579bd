"""What is left of the ids where an operation takes parts of a tensor, or joins parts to one."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from isogloss.models.passes.axes.labels import (
    UNKNOWN,
    Label,
    LabelledAxes,
    LabelledAxis,
    both,
    free,
    is_free,
    renamed,
    size_of,
    tables_in,
    whole,
)
from isogloss.models.passes.axes.tables import NONE, Tables

TAKING = frozenset((
    "T", "chunk", "diagonal", "expand", "getitem", "mT", "moveaxis", "movedim", "narrow",
    "permute", "select", "split", "split_with_sizes", "squeeze", "swapaxes", "swapdims", "t",
    "tensor_split", "transpose", "unbind", "unsqueeze", "unsafe_chunk", "unsafe_split",
))  # fmt: skip
"""Give views of a tensor in which each axis is moved, cut or left out by itself."""


def taken(
    func: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    axes: LabelledAxes,
    tables: Tables,
) -> list[LabelledAxes] | None:
    """Return the axes of each tensor that an operation takes out of one.

    It is run again on views of a row of numbers, which tell what it takes along each axis.

    Args:
        func: one of those in ``TAKING``.
        args: its arguments; the first is the tensor that is followed.
        kwargs: its arguments by name.
        axes: of that tensor.
        tables: of ids, to which those that are cut are added.

    Returns:
        None: it copies numbers, as by a tensor of indices.
    """
    shape = [size_of(axis) for axis in axes]
    found: list[dict[int, tuple[int | None, list[int]]]] = []
    shapes: list[torch.Size] = []
    for axis in range(-1, len(axes)):  # -1: for the sizes, of what has no axis of ids too
        if axis >= 0 and is_free(axes[axis]):
            continue
        numbers = torch.arange(max(1, *shape, 2))
        strides = [int(i == axis) for i in range(len(axes))]
        result = func(numbers.as_strided(shape, strides), *args[1:], **kwargs)
        parts = [result] if isinstance(result, Tensor) else [*cast("Sequence[Tensor]", result)]
        if any(
            p.untyped_storage().data_ptr() != numbers.untyped_storage().data_ptr() for p in parts
        ):
            return None
        if axis < 0:
            found, shapes = [{} for _ in parts], [part.shape for part in parts]
            continue
        for one, part in zip(found, parts, strict=True):
            one[axis] = _place(part, is_single=shape[axis] == 1)
    return [_cut(axes, one, shape, tables) for one, shape in zip(found, shapes, strict=True)]


def _place(part: Tensor, *, is_single: bool) -> tuple[int | None, list[int]]:
    """Return which axis of a part goes along a row of numbers, and which of these it takes."""
    steps = [*zip(part.shape, part.stride(), strict=True)]
    along = [i for i, (size, step) in enumerate(steps) if step and (size > 1 or is_single)]
    if is_single:
        return (along[-1] if along else None), [0] * (part.shape[along[-1]] if along else 1)
    if len(along) > 1:  # windows, or a diagonal
        return None, []
    if not along:
        kept = [i for i, (size, step) in enumerate(steps) if step and size == 1]
        return (kept[-1] if kept else None), [int(part.storage_offset())]
    size, step = steps[along[0]]
    return along[0], [int(part.storage_offset() + i * step) for i in range(size)]


def _cut(
    axes: LabelledAxes,
    places: Mapping[int, tuple[int | None, Sequence[int]]],
    shape: Sequence[int],
    tables: Tables,
) -> LabelledAxes:
    """Return the axes of a part, with tables of the ids that are left."""
    found = [free(size) for size in shape]
    named = [label.axis for axis in axes for label, _ in axis if label]
    cuts = dict[int, Sequence[int]]()
    for axis, (to, index) in places.items():
        parts, label = axes[axis], whole(axes[axis])
        is_all = [*index] == [*range(size_of(parts))]
        if not is_all and (label is None or not index or named.count(label.axis) > 1):
            continue  # a part of several axes in one: that is no axis of ids any more
        if to is not None and shape[to] == len(index):
            found[to] = parts if is_all else ((label, len(index)),)
        if not is_all and label is not None:
            cuts[label.axis] = index
    of = tables_in(axes) - {UNKNOWN}
    for label_axis, index in cuts.items():
        size = next(size_of(axis) for axis in axes if (w := whole(axis)) and w.axis == label_axis)
        numbers = {
            one: tables.taken(one, label_axis, index)
            for one in of
            if tables[one].places.shape[label_axis] == size
        }
        found = [*renamed(tuple(found), numbers)]
        of = frozenset(numbers.get(one, one) for one in of)
    return tuple(found)


def padded(
    axes: LabelledAxes, sides: Sequence[int], tables: Tables, *, is_circular: bool = False
) -> LabelledAxes:
    """Return the axes of a tensor with more, or fewer, at the ends of its last axes.

    Args:
        axes: of the tensor.
        sides: how many before and behind the last axis, then of the one before it, and so on.
        tables: of ids, to which those with places of no id are added.
        is_circular: whether what is added are the ids at the other end.
    """
    places = dict[int, tuple[int | None, Sequence[int]]]()
    shape = [size_of(axis) for axis in axes]
    for i, size in enumerate(shape):
        behind = 2 * (len(axes) - 1 - i)
        before, after = (*sides[behind : behind + 2], 0, 0)[:2]
        index = [n if 0 <= n < size else NONE for n in range(-before, size + after)]
        if is_circular:
            index = [n % size for n in range(-before, size + after)]
        shape[i] = len(index)
        if not is_free(axes[i]):
            places[i] = i, index
    return _cut(axes, places, shape, tables)


def joined(
    pieces: Sequence[tuple[LabelledAxes | None, Sequence[int]]], dim: int, tables: Tables
) -> LabelledAxes:
    """Return the axes of tensors that are put one behind another.

    Args:
        pieces: axes and sizes of each; axes that are None are not known.
        dim: the axis along which they are joined.
        tables: of ids, to which the joined ones are added.
    """
    sizes = [shape[dim] for _, shape in pieces]
    known = [axes for axes, _ in pieces if axes is not None]
    rest = [*known[0]]
    for axes in known[1:]:
        rest = [both(one, other) for one, other in zip(rest, axes, strict=True)]
    rest[dim] = free(sum(sizes))
    axis = _joined_axis(known, dim, tables)
    if axis is None:
        return tuple(rest)
    some = [frozenset[int]() if axes is None else tables_in(axes) for axes, _ in pieces]
    numbers = _joined_tables(some, sizes, axis, tables)
    if not numbers:
        return tuple(_none_of(part, axis) for part in rest)
    if any(UNKNOWN in of for of in some):
        numbers |= {UNKNOWN}
    found = [_of_tables(part, numbers) for part in rest]
    found[dim] = ((Label(axis, numbers), sum(sizes)),)
    return tuple(found)


def _joined_axis(known: Sequence[LabelledAxes], dim: int, tables: Tables) -> int | None:
    """Return along which axis of the ids tensors are joined; None: along none of them."""
    told = {label.axis for axes in known if (label := whole(axes[dim]))}
    if told:
        return told.pop() if len(told) == 1 else None
    some = {tables_in(axes) - {UNKNOWN} for axes in known}
    if len(some) == 1 or not all(is_free(axes[dim]) for axes in known):
        return None  # along the width, or heads
    named = {label.axis for axes in known for axis in axes for label, _ in axis if label}
    left = {0, 1} - named
    shapes = [tables[one].places.shape for of in some for one in of]
    return left.pop() if len(left) == 1 and all(min(shape) == 1 for shape in shapes) else None


def _joined_tables(
    some: Sequence[frozenset[int]], sizes: Sequence[int], axis: int, tables: Tables
) -> frozenset[int]:
    """Return the tables of pieces put together: of each origin that all pieces with ids have."""
    per_piece = [{tables[one].origin for one in of - {UNKNOWN}} for of in some]
    origins = set[int].intersection(*[one for one in per_piece if one] or [set()])
    found = set[int]()
    for origin in origins:
        chosen, at = list[int | None](), 0
        for of, size in zip(some, sizes, strict=True):
            chosen.append(_next(of, origin, axis, at, size, tables))
            at += size
        first = next((one for one in chosen if one is not None), None)
        is_lost = any(one is None and of - {UNKNOWN} for one, of in zip(chosen, some, strict=True))
        if first is None or is_lost:
            continue
        places = [
            tables[first].places.new_full(_shape(tables[first].places, axis, size), NONE)
            if one is None
            else tables[one].places
            for one, size in zip(chosen, sizes, strict=True)
        ]
        if len({part.shape[1 - axis] for part in places}) == 1:
            varies = any(one is not None and tables[one].varies for one in chosen)
            found.add(tables.ordered(origin, torch.cat(places, axis), varies=varies))
    return frozenset(found)


def _next(
    of: frozenset[int], origin: int, axis: int, at: int, size: int, tables: Tables
) -> int | None:
    """Return which of the tables of a piece its rows are of; None: none, or one of several.

    Of several, as of states that were added up, it is the one that goes on in the order of the
    origin.
    """
    options = [
        one
        for one in of - {UNKNOWN}
        if tables[one].origin == origin and tables[one].places.shape[axis] == size
    ]
    every = tables[origin].places
    if at + size <= every.shape[axis]:
        wanted = every.narrow(axis, at, size)
        for one in options:
            if torch.equal(tables[one].places, wanted):
                return one
    return options[0] if len(options) == 1 else None


def _shape(places: Tensor, axis: int, size: int) -> tuple[int, int]:
    other = places.shape[1 - axis]
    return (size, other) if axis == 0 else (other, size)


def _of_tables(axis: LabelledAxis, numbers: frozenset[int]) -> LabelledAxis:
    return tuple((label and Label(label.axis, numbers), size) for label, size in axis)


def _none_of(axis: LabelledAxis, label_axis: int) -> LabelledAxis:
    return tuple(
        (None if label and label.axis == label_axis else label, size) for label, size in axis
    )


__all__ = ["TAKING", "joined", "padded", "taken"]
