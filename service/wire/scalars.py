"""Fields that are written differently on the wire: times, JSON objects, element types."""

import json
from collections.abc import Mapping
from typing import Literal, TypeGuard

from google.protobuf.timestamp_pb2 import Timestamp

from isogloss.errors import InvalidInput, ShapeError
from isogloss.proto.v1 import types_pb2 as types

_DTYPES: Mapping[types.Dtype.ValueType, Literal["bfloat16", "float16", "float32"]] = {
    types.DTYPE_BFLOAT16: "bfloat16",
    types.DTYPE_FLOAT16: "float16",
    types.DTYPE_FLOAT32: "float32",
}
_DTYPE_NUMBERS = {name: number for number, name in _DTYPES.items()}


def to_time(seconds: float) -> Timestamp:
    """Return seconds since the epoch as a timestamp, to the microsecond."""
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def from_time(stamp: Timestamp) -> float:
    """Return a timestamp as seconds since the epoch."""
    return stamp.ToMicroseconds() / 1e6


def to_json(values: Mapping[str, object]) -> str:
    """Return a JSON object as text; empty for an empty one."""
    return json.dumps(values, allow_nan=False) if values else ""


def from_json(text: str, field: str) -> dict[str, object]:
    """Read a JSON object from a field; empty text is an empty object.

    Args:
        text: the field's text.
        field: name of the field, for error messages.

    Returns:
        The object.

    Raises:
        InvalidInput: the text is not a JSON object.
    """
    if not text:
        return {}
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"field {field!r} is not JSON: {error}") from error
    if not _is_object(value):
        raise InvalidInput(f"field {field!r} is a JSON {type(value).__name__}, wanted an object")
    return value


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def to_dtype(name: str) -> types.Dtype.ValueType:
    """Return the number of a dtype's name; ShapeError when it has none."""
    if name not in _DTYPE_NUMBERS:
        raise ShapeError(f"dtype is {name!r}, wanted one of {sorted(_DTYPE_NUMBERS)}")
    return _DTYPE_NUMBERS[name]


def from_dtype(number: types.Dtype.ValueType) -> Literal["bfloat16", "float16", "float32"]:
    """Return the name of a dtype; ShapeError when it is unspecified or unknown."""
    if number not in _DTYPES:
        raise ShapeError(f"dtype is number {number}, wanted one of {dict(_DTYPES)}")
    return _DTYPES[number]
