"""One readable line for a value: what is long in it is cut."""

import dataclasses
import reprlib

_CUT = reprlib.Repr()
_CUT.maxlevel = 2
_CUT.maxdict = _CUT.maxlist = _CUT.maxtuple = 4
_CUT.maxstring = 48
_CUT.maxother = 64


def short_repr(self: object) -> str:
    """Return a dataclass as one line.

    Args:
        self: a dataclass, of which this is ``__repr__``; most of its fields are short.

    Returns:
        Its fields by name. Of texts, mappings and lists that are long only the beginning is shown,
        and dots for the rest.
    """
    fields = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
    shown = (f"{field.name}={_cut(getattr(self, field.name))}" for field in fields)
    return f"{type(self).__name__}({', '.join(shown)})"


def _cut(value: object) -> str:
    return " ".join(_CUT.repr(value).split())
