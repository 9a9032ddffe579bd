"""One readable line for a value: what is long in it is cut."""

import dataclasses
import reprlib
from collections.abc import Mapping
from itertools import islice
from typing import cast

_ITEMS = 4
_MOST = 900
"""Characters of a whole line: some ten lines of a terminal or a notebook."""
_CUT = reprlib.Repr()
_CUT.maxlevel = 2
_CUT.maxdict = _CUT.maxlist = _CUT.maxtuple = _ITEMS
_CUT.maxstring = 48
_CUT.maxother = 64


def short_repr(self: object) -> str:
    """Return a dataclass as one line.

    Args:
        self: a dataclass, of which this is ``__repr__``.

    Returns:
        Its fields by name. Of texts, mappings and lists that are long only the beginning is shown,
        and dots for the rest; of arrays and tensors type and shape.
    """
    fields = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
    shown = ", ".join(
        f"{field.name}={_cut(getattr(self, field.name))}" for field in fields if field.repr
    )
    if len(shown) > _MOST:
        shown = f"{shown[:_MOST]}..."
    return f"{type(self).__name__}({shown})"


def _cut(value: object) -> str:
    if isinstance(value, Mapping) and value:
        items = cast("Mapping[object, object]", value).items()
        shown = [f"{_one(key)}: {_one(item)}" for key, item in islice(items, _ITEMS)]
        return f"{{{', '.join([*shown, *(['...'] if len(value) > _ITEMS else [])])}}}"
    return _one(value)


def _one(value: object) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:  # an array or a tensor
        return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
    return " ".join(_CUT.repr(value).split())


__all__ = ["short_repr"]
