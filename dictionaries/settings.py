"""Settings as frozen dataclasses: read from plain values, checked, described as a JSON schema.

The type of a field is its whole rule: ``Annotated[int, Meta(ge=1)]`` is a whole number of at least
1, wherever it comes from, and the schema says so. Imports no torch.
"""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from isogloss.errors import InvalidInput
from isogloss.field_docs import field_docs

_EXACT = 2**53
"""Up to here a float holds every whole number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A base for frozen dataclasses, which compares every field with its type when it is made.

    Raises:
        InvalidInput: a value is of another type or out of its range; the message names the field,
            the value and what is wanted.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            _convert(field.name, getattr(self, field.name), hints[field.name])


_Settings = TypeVar("_Settings", bound=Settings)


def read_settings(cls: type[_Settings], values: Mapping[str, object], what: str) -> _Settings:
    """Build a dataclass from plain values, such as JSON or a protobuf Struct gives.

    Whole numbers may come as floats (32.0 for 32) and the other way round. Fields that ``values``
    lacks take their defaults.

    Args:
        cls: a subclass of :class:`Settings` that is a frozen dataclass too.
        values: a value for each field, by name.
        what: owner of the settings, as error messages name it, such as ``kind 'topk'``.

    Returns:
        The settings, checked.

    Raises:
        InvalidInput: ``values`` has a name that is no field, lacks a field without default, or has
            a value of another type or out of its range.
    """
    known = [field.name for field in fields(cls)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        near = nearest(unknown, known)
        raise InvalidInput(f"unknown settings {unknown}{near}; {what} has {known}")
    for field in fields(cls):
        required = field.default is MISSING and field.default_factory is MISSING
        if required and field.name not in values:
            raise InvalidInput(f"{field.name} is missing; {what} needs it")
    hints = get_type_hints(cls, include_extras=True)
    return cls(**{name: _convert(name, value, hints[name]) for name, value in values.items()})


def nearest(unknown: Sequence[str], known: Sequence[str]) -> str:
    """Return the known names that are most like the unknown ones, for a message; or nothing."""
    near = [name for one in unknown for name in difflib.get_close_matches(one, known, n=1)]
    return f" (nearest: {', '.join(dict.fromkeys(near))})" if near else ""


def settings_to_dict(settings: Settings) -> dict[str, object]:
    """Return every field as the plain values that JSON gives back: lists for tuples."""
    return cast("dict[str, object]", json.loads(msgspec.json.encode(settings)))


def settings_schema(cls: type[Settings]) -> dict[str, object]:
    """Return the JSON schema of a dataclass: types, ranges, defaults, and each field's docstring.

    ``properties`` stands at the top. Rules between two fields (k at most features) are not in it.
    """
    schema = msgspec.json.schema(cls)
    definitions = cast("dict[str, dict[str, object]]", schema["$defs"])
    own = definitions.pop(cls.__name__)
    properties = cast("dict[str, dict[str, object]]", own["properties"])
    for name, text in field_docs(cls).items():
        if name in properties:
            properties[name]["description"] = text
    own["additionalProperties"] = False
    if definitions:
        own["$defs"] = definitions
    return own


def _convert(name: str, value: object, wanted: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{name} is {value}; wanted a finite number")
    try:
        return msgspec.convert(_whole(value), type=wanted)
    except msgspec.ValidationError as error:
        if choices := _choices(wanted):
            raise InvalidInput(f"{name} is {value!r}; wanted one of {choices}") from error
        raise InvalidInput(f"{name} is {value!r}; {str(error).lower()}") from error


def _choices(wanted: object) -> list[object]:
    """Return the values of a type that is one of some literals; empty for any other."""
    return list(get_args(wanted)) if get_origin(wanted) is Literal else []


def _whole(value: object) -> object:
    """Return 32 for 32.0, so that a whole number fits fields of both types."""
    if isinstance(value, list | tuple):
        return [_whole(item) for item in cast("list[object]", value)]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value
