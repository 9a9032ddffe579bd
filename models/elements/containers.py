"""Tensors inside what modules take and return: tuples, lists and mappings."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from torch import Tensor

from isogloss.errors import InvalidInput


def first_tensor(output: object, name: str) -> Tensor:
    """Return the tensor in a module's output.

    Where the output is a tuple, list or mapping its first element is taken, and again the first
    element of that, until a tensor is found.

    Args:
        output: what the module returned.
        name: name of the site, for the error message.

    Returns:
        The tensor.

    Raises:
        InvalidInput: there is no tensor, or a container on the way is empty.
    """
    found = output
    while not isinstance(found, Tensor):
        if isinstance(found, Mapping) and found:
            found = next(iter(cast("Mapping[str, object]", found).values()))
        elif isinstance(found, tuple | list) and found:
            found = cast("Sequence[object]", found)[0]
        else:
            raise InvalidInput(
                f"site {name!r} gives {type(found).__name__}, not a tensor; choose a submodule "
                "that returns activations"
            )
    return found


def with_first(output: object, new: Tensor) -> object:
    """Return a copy of a module's output with another first tensor."""
    if isinstance(output, Tensor):
        return new
    if isinstance(output, Mapping):
        items = dict(cast("Mapping[str, object]", output))
        key = next(iter(items))
        return _like(output, {**items, key: with_first(items[key], new)})
    items = list(cast("Sequence[object]", output))
    items[0] = with_first(items[0], new)
    return _like(output, items)


def element(output: object, key: int | str, name: str) -> Tensor:
    """Return the element of a module's output that a site names.

    Args:
        output: a tuple, list or mapping.
        key: place in a tuple or list (also of a mapping, by its order), or key of a mapping.
        name: name of the site, for the error message.

    Raises:
        InvalidInput: there is no such element, or it is no tensor.
    """
    found = _elements(output).get(key)
    if not isinstance(found, Tensor):
        there = ", ".join(f"{at!r} ({type(one).__name__})" for at, one in _elements(output).items())
        is_none = found is None and key in _elements(output)
        hint = "; attention that does not run eagerly gives no patterns: name heads.pattern"
        raise InvalidInput(
            f"site {name!r} wants element {key!r} of {type(output).__name__}, a tensor; there are "
            f"{there or 'none'}{hint if is_none else ''}"
        )
    return found


def with_element(output: object, key: int | str, new: Tensor) -> object:
    """Return a copy of a module's output with another element at ``key``."""
    if isinstance(output, Mapping):
        items = dict(cast("Mapping[str, object]", output))
        at = list(items)[key] if isinstance(key, int) else key
        return _like(output, {**items, at: new})
    items = list(cast("Sequence[object]", output))
    items[int(key)] = new
    return _like(output, items)


def _elements(output: object) -> dict[int | str, object]:
    if isinstance(output, Mapping):
        items = cast("Mapping[str, object]", output)
        return {**dict(enumerate(items.values())), **items}
    if isinstance(output, tuple | list):
        return dict(enumerate(cast("Sequence[object]", output)))
    return {0: output}


def _like(output: object, items: object) -> object:
    make = getattr(output, "_make", None) or type(output)
    return cast("Callable[[object], object]", make)(items)
