"""Which axis of a table of ids each axis of a tensor is, and what views make of that."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

UNKNOWN = -1
"""Stands in a label for ids that are not known."""


@dataclass(frozen=True, slots=True)
class Label:
    """An axis of a table of ids."""

    axis: int
    """0 or 1."""
    tables: frozenset[int]
    """Of which tables: several where their states were added up, or -1 for one not known."""


LabelledAxis = tuple[tuple[Label | None, int], ...]
"""The parts that an axis is made of, with their sizes; None: a part that is no axis of ids."""
LabelledAxes = tuple[LabelledAxis, ...]


def free(size: int) -> LabelledAxis:
    """Return an axis that is none of ids."""
    return ((None, size),)


def is_free(axis: LabelledAxis) -> bool:
    """Return whether no part of an axis is one of ids."""
    return not any(label for label, _ in axis)


def size_of(axis: LabelledAxis) -> int:
    """Return how long an axis is."""
    return math.prod(size for _, size in axis)


def whole(axis: LabelledAxis) -> Label | None:
    """Return which axis of ids an axis is, where it is one whole."""
    parts = [label for label, size in axis if size != 1] or [label for label, _ in axis]
    return parts[0] if len(parts) == 1 else None


def tables_in(axes: LabelledAxes) -> frozenset[int]:
    """Return the numbers of all tables of which some axes are."""
    return frozenset[int]().union(*(label.tables for axis in axes for label, _ in axis if label))


def renamed(axes: LabelledAxes, numbers: Mapping[int, int]) -> LabelledAxes:
    """Return axes of other tables, by their numbers."""
    return tuple(tuple((_renamed(label, numbers), size) for label, size in axis) for axis in axes)


def _renamed(label: Label | None, numbers: Mapping[int, int]) -> Label | None:
    if label is None:
        return None
    return Label(label.axis, frozenset(numbers.get(one, one) for one in label.tables))


def both(one: LabelledAxis, other: LabelledAxis) -> LabelledAxis:
    """Return an axis on which two tensors are joined number by number."""
    if is_free(one):
        return other
    if is_free(other):
        return one
    if [size for _, size in one] != [size for _, size in other]:
        return free(size_of(one))
    return tuple(
        (_joined(label, more), size) for (label, size), (more, _) in zip(one, other, strict=True)
    )


def _joined(one: Label | None, other: Label | None) -> Label | None:
    if one is None or other is None or one.axis != other.axis:
        return None
    return Label(one.axis, one.tables | other.tables)


def tainted(axis: LabelledAxis) -> LabelledAxis:
    """Return an axis whose rows may also be of ids that are not known."""
    return tuple(
        (label and Label(label.axis, label.tables | {UNKNOWN}), size) for label, size in axis
    )


def resized(axes: LabelledAxes, shape: Sequence[int]) -> LabelledAxes:
    """Return the axes behind an operation that changes the size of some: these are none of ids."""
    return tuple(
        axis if size_of(axis) == size else free(size)
        for axis, size in zip(axes, shape, strict=True)
    )


def viewed(axes: LabelledAxes, shape: Sequence[int]) -> LabelledAxes | None:
    """Return the axes of the same numbers, in the same order, in another shape."""
    left = [part for axis in axes for part in axis if part[1] != 1]
    found: list[LabelledAxis] = []
    for size in shape:
        own, rest = list[tuple[Label | None, int]](), size
        while rest > 1:
            label, count = left.pop(0)
            if rest % count == 0:
                own.append((label, count))
                rest //= count
            elif count % rest == 0:  # neither part of an axis that is cut is one of ids
                own.append((None, rest))
                left.insert(0, (None, count // rest))
                rest = 1
            else:
                return None
        found.append(tuple(own) or free(1))
    for i, axis in enumerate(axes[: len(found)]):  # those of size 1 in front stay what they are
        if size_of(axis) != size_of(found[i]):
            break
        found[i] = axis if size_of(axis) == 1 else found[i]
    return tuple(found)


__all__ = [
    "UNKNOWN",
    "Label",
    "LabelledAxes",
    "LabelledAxis",
    "both",
    "free",
    "is_free",
    "renamed",
    "resized",
    "size_of",
    "tables_in",
    "tainted",
    "viewed",
    "whole",
]
