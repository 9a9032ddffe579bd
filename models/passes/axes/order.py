"""In which order an operation leaves the ids that the rows of a tensor are of.

An operation that flips, rolls or picks rows keeps the sizes, and the rows stand at other places. It
is run again on a small tensor that holds the number of its id at the place of each row.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Part = tuple[int | None, int]
"""Which axis of a table of ids a part of an axis is (None: no axis of this table), and its size."""

REORDERING = frozenset((
    "flip", "fliplr", "flipud", "gather", "getitem", "index_select", "repeat_interleave", "roll",
    "take_along_dim",
))  # fmt: skip
"""Give rows of a tensor, at other places."""


_FLAT = {"roll": "dims", "take_along_dim": "dim"}
"""Those that work on all numbers in a row, where this argument is not given."""


def order_after(
    name: str,
    func: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    axes: Sequence[Sequence[Part]],
    free: Sequence[bool],
    places: Tensor,
) -> Tensor | None:
    """Return which ids the rows are of after an operation.

    Args:
        name: of the operation.
        func: the operation; its first argument is the tensor that is followed.
        args: its arguments.
        kwargs: its arguments by name.
        axes: the parts of each axis of that tensor.
        free: for each axis whether it is one of no ids at all.
        places: of the ids that the rows are of before, ``[a, b]``.

    Returns:
        These in the new order, ``[a, b]``; None: the operation does not give as many rows, or not
        the same order for all numbers of a row.
    """
    is_flat = name in _FLAT and len(args) < 3 and kwargs.get(_FLAT[name]) in (None, ())
    if is_flat or "out" in kwargs:  # run again, it would write there
        return None
    sizes = [
        [1 if is_free else size for _, size in parts]
        for parts, is_free in zip(axes, free, strict=True)
    ]
    named = [axis for parts in axes for axis, _ in parts]
    flat = [size for parts in sizes for size in parts]
    missing = {0, 1} - {*named}
    if any(named.count(axis) > 1 for axis in (0, 1)) or any(places.shape[i] != 1 for i in missing):
        return None
    numbers = torch.arange(places.numel(), device=places.device).reshape(places.shape)
    order = sorted((axis, place) for place, axis in enumerate(named) if axis is not None)
    is_turned = len(order) == 2 and order[0][1] > order[1][1]
    turned = numbers.squeeze(tuple(missing)) if missing else numbers
    turned = turned.T if is_turned else turned
    shape = [1 if axis is None else size for axis, size in zip(named, flat, strict=True)]
    image = turned.reshape(shape).expand(flat)
    image = image.reshape([_product(parts) for parts in sizes])
    others = [_narrowed(one, image) for one in args[1:]]
    named_others = {key: _narrowed(one, image) for key, one in kwargs.items()}
    try:
        found = func(image, *others, **named_others)
    except (IndexError, RuntimeError):  # it picks among the numbers of a row
        return None
    if not isinstance(found, Tensor) or found.shape != image.shape:
        return None
    found = found.reshape(flat)
    for place in (place for place, axis in enumerate(named) if axis is None):
        if not bool((found == found.narrow(place, 0, 1)).all()):
            return None
        found = found.narrow(place, 0, 1)
    found = found.reshape([flat[place] for _, place in sorted(order, key=lambda one: one[1])])
    found = found.T if is_turned else found
    return places.reshape(-1)[found.reshape(-1)].reshape(places.shape)


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def _narrowed(argument: object, image: Tensor) -> object:
    """Return an index for each number as one for each row, where it is the same for all of them."""
    if not isinstance(argument, Tensor) or argument.ndim != image.ndim:
        return argument
    for axis, size in enumerate(image.shape):
        first = argument.narrow(axis, 0, 1)
        if size == 1 and bool((argument == first).all()):
            argument = first
    return argument


__all__ = ["REORDERING", "Part", "order_after"]
