"""Fields that are written differently on the wire: times, JSON objects, element types."""

import json
from collections.abc import Mapping, Sequence
from typing import Literal, TypeGuard, cast

from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from isogloss.errors import InvalidInput, ShapeError
from isogloss.proto.v1 import types_pb2 as types

_DTYPES: Mapping[types.Dtype.ValueType, Literal["bfloat16", "float16", "float32"]] = {
    types.DTYPE_BFLOAT16: "bfloat16",
    types.DTYPE_FLOAT16: "float16",
    types.DTYPE_FLOAT32: "float32",
}
_EXACT = 2**53
"""A Struct holds numbers as floats, which hold every whole number up to here."""
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


def to_struct(values: Mapping[str, object]) -> Struct:
    """Return a JSON object as a Struct.

    Args:
        values: by name: None, numbers, texts, lists and objects.

    Returns:
        The Struct.

    Raises:
        InvalidInput: a value is none of these, or a whole number that a float does not hold.
    """
    return Struct(fields={name: _to_value(name, value) for name, value in values.items()})


def _to_value(name: str, value: object) -> Value:
    match value:
        case None:
            return Value(null_value=0)  # pyright: ignore[reportArgumentType] - the enum's only number
        case bool():
            return Value(bool_value=value)
        case str():
            return Value(string_value=value)
        case int() if abs(value) > _EXACT:
            raise InvalidInput(f"{name} is {value}, wanted a whole number of at most 2**53")
        case int() | float():
            return Value(number_value=value)
        case Mapping():
            return Value(struct_value=to_struct(cast("Mapping[str, object]", value)))
        case list() | tuple():
            items = cast("Sequence[object]", value)
            return Value(list_value=ListValue(values=[_to_value(name, item) for item in items]))
        case _:
            raise InvalidInput(
                f"{name} is {value!r}, a {type(value).__name__}; wanted what JSON holds: a number, "
                "text, true, false, null, a list or an object"
            )


def from_struct(found: Struct) -> dict[str, object]:
    """Return a Struct as a JSON object; whole numbers are ints again."""
    return {name: _from_value(value) for name, value in found.fields.items()}


def _from_value(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [_from_value(item) for item in value.list_value.values]
        case _:
            return None


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
