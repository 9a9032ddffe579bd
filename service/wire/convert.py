"""Between dataclasses and messages, by the names and types of their fields.

A pair of a dataclass and a message needs no code where their fields have the same names. What
differs is declared once with :func:`declare`. Each field of both must be accounted for: a pair that
leaves one out is refused when it is declared or first used, so nothing is dropped in silence.

Types that are converted by themselves: numbers, texts and bytes; ``X | None`` (set or not);
``tuple[X, ...]`` (repeated); ``Mapping[str, X]`` (a map); another dataclass (another message);
``Literal["live", ...]`` (an enum whose names are ``TIER_LIVE``, ...); ``float`` seconds (a
Timestamp); and ``Mapping[str, object]`` (a Struct, or a text field named ``..._json``).
"""

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Generic, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from isogloss.errors import InternalError, InvalidInput
from isogloss.service.wire.names import from_name, to_name
from isogloss.service.wire.scalars import (
    from_json,
    from_struct,
    from_time,
    to_json,
    to_struct,
    to_time,
)

MessageT = TypeVar("MessageT", bound=Message)
ValueT = TypeVar("ValueT")
Convert = Callable[[object], object]

_SCALARS: Mapping[type, frozenset[int]] = {
    bool: frozenset({FieldDescriptor.CPPTYPE_BOOL}),
    int: frozenset(
        {
            FieldDescriptor.CPPTYPE_INT32,
            FieldDescriptor.CPPTYPE_INT64,
            FieldDescriptor.CPPTYPE_UINT32,
            FieldDescriptor.CPPTYPE_UINT64,
        }
    ),
    float: frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}),
}
_STRUCT = Struct.DESCRIPTOR.full_name
_TEXTS: Mapping[type, int] = {str: FieldDescriptor.TYPE_STRING, bytes: FieldDescriptor.TYPE_BYTES}


@dataclass(frozen=True, slots=True)
class Joined(Generic[ValueT, MessageT]):
    """A field of a message that is more, or other, than one field of the value."""

    field: str
    """Field of the message."""
    gives: tuple[str, ...]
    """Fields of the value that reading it gives; none for what the value computes."""
    write: Callable[[ValueT], object]
    """Takes the value, returns the field; None leaves it unset."""
    read: Callable[[MessageT], tuple[object, ...]] = lambda _: ()
    """Takes the message, returns what ``gives`` names."""


@dataclass(frozen=True, slots=True)
class _Ways:
    """Functions that convert one field both ways; None: the field is sent unchanged."""

    write: Convert | None = None
    read: Convert | None = None
    has_presence: bool = False


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a value and the field of the message that holds it."""

    name: str
    field: str
    ways: _Ways


class _Plan(Generic[ValueT, MessageT]):
    """How a dataclass and its message are converted; made once from names and types."""

    def __init__(
        self,
        kind: type[ValueT],
        message: type[MessageT],
        plain: Iterable[_Field],
        joined: Iterable[Joined[ValueT, MessageT]],
    ) -> None:
        fields, rules = list(plain), list(joined)
        # neither class has a constructor that takes what another pair's has
        self._make_value = cast("Callable[..., ValueT]", kind)
        self._make_message = cast("Callable[..., MessageT]", message)
        self._names = [field.name for field in fields]
        self._fields = [field.field for field in fields]
        self._of_value = _getter(self._names)
        self._of_message = _getter(self._fields)
        self._writes = [(f.field, f.ways.write) for f in fields if f.ways.write is not None]
        self._reads = [
            (f.name, f.field if f.ways.has_presence else None, f.ways.read or _same)
            for f in fields
            if f.ways.read is not None or f.ways.has_presence
        ]
        self._joined_writes = [(rule.field, rule.write) for rule in rules]
        self._joined_reads = [(rule.gives, rule.read) for rule in rules if rule.gives]

    def write(self, value: ValueT) -> MessageT:
        """Return the message of a value."""
        found = dict(zip(self._fields, self._of_value(value), strict=True))
        for field, convert in self._writes:
            held = found[field]
            if held is not None:
                found[field] = convert(held)
        for field, make in self._joined_writes:
            found[field] = make(value)
        return self._make_message(**found)

    def read(self, message: MessageT) -> ValueT:
        """Return the value of a message."""
        found = dict(zip(self._names, self._of_message(message), strict=True))
        for name, presence, convert in self._reads:
            if presence is not None and not message.HasField(presence):
                found[name] = None
            else:
                found[name] = convert(found[name])
        for names, make in self._joined_reads:
            found.update(zip(names, make(message), strict=True))
        return self._make_value(**found)


_plans: dict[tuple[type, type[Message]], _Plan[object, Message]] = {}
_inner: set[tuple[type, type[Message]]] = set()


def declare(
    kind: type[ValueT],
    message: type[MessageT],
    *,
    renamed: Mapping[str, str] | None = None,
    resources: Mapping[str, str] | None = None,
    converted: Mapping[str, tuple[Convert, Convert]] | None = None,
    joined: Iterable[Joined[ValueT, MessageT]] = (),
    left_out: Iterable[str] = (),
) -> None:
    """Say where a dataclass and a message differ, before the pair is first used.

    Args:
        kind: the dataclass.
        message: the message.
        renamed: by field of the dataclass, the field of the message that holds it.
        resources: by field of the dataclass, the collection whose ids it holds, such as
            ``recordings``: the message then has the names.
        converted: by field of the dataclass, the functions that write and read it.
        joined: fields that are not one to one.
        left_out: fields of the message that the dataclass does not have, and that the caller sees
            to.

    Raises:
        InternalError: a field is unknown, missing or of another type on the other side.
    """
    names, collections = dict(renamed or {}), dict(resources or {})
    functions, rules = dict(converted or {}), list(joined)
    hints = get_type_hints(kind)
    descriptors = _fields_of(message)
    given = {field.name for field in dataclasses.fields(_checked(kind))}
    apart = {name for rule in rules for name in rule.gives}
    plain: list[_Field] = []
    for name in sorted(given - apart):
        field = names.get(name, name)
        if field not in descriptors and f"{name}_json" in descriptors:
            field = f"{name}_json"
        if field not in descriptors:
            raise _mismatch(kind, message, f"{name} of the dataclass has no field there")
        if name in functions:
            ways = _Ways(*functions[name])
        elif name in collections:
            ways = _names_of(collections[name], is_repeated=descriptors[field].is_repeated)
        else:
            ways = _ways(kind, name, hints[name], message, descriptors[field])
        plain.append(_Field(name, field, ways))
    found = [*(f.field for f in plain), *(rule.field for rule in rules), *left_out]
    unknown = (set(names) | set(collections) | set(functions) | apart) - given
    twice = {field for field in found if found.count(field) > 1}
    if odd := sorted(unknown | twice | (set(found) ^ set(descriptors))):
        raise _mismatch(kind, message, f"{', '.join(odd)} must stand on both sides, once")
    made = _Plan(kind, message, plain, rules)
    if (kind, message) in _plans:
        raise _mismatch(kind, message, "the pair was declared, or used, before")
    _plans[kind, message] = cast("_Plan[object, Message]", made)


def to_message(value: object, message: type[MessageT], *, like: type | None = None) -> MessageT:
    """Return a value as a message.

    Args:
        value: a dataclass.
        message: the type of the message.
        like: the dataclass whose fields are used, if ``value`` is of another class that has them
            too; None: the class of ``value``.

    Returns:
        The message.

    Raises:
        InvalidInput: a field of the value cannot be written, such as an id of a wrong form.
        InternalError: value and message do not have the same fields.
    """
    # what a plan makes is of the type that it was made for
    return cast("MessageT", _plan(like or type(value), message).write(value))


def from_message(message: Message, kind: type[ValueT]) -> ValueT:
    """Return the value that a message holds.

    Args:
        message: the message.
        kind: the dataclass.

    Returns:
        The value.

    Raises:
        InvalidInput: a field of the message is malformed.
        InternalError: value and message do not have the same fields.
    """
    return cast("ValueT", _plan(kind, type(message)).read(message))


def check_inner() -> None:
    """Work out the pairs that stand within others; called once all declarations were made.

    Raises:
        InternalError: value and message do not have the same fields.
    """
    while waiting := _inner - _plans.keys():
        for pair in waiting:
            declare(*pair)


def _plan(kind: type, message: type[Message]) -> _Plan[object, Message]:
    found = _plans.get((kind, message))
    if found is None:
        declare(kind, message)
        found = _plans[kind, message]
    return found


def _fields_of(message: type[Message]) -> dict[str, FieldDescriptor]:
    # the two classes of field, in Python and in C, have the same attributes
    return {field.name: cast("FieldDescriptor", field) for field in message.DESCRIPTOR.fields}


def _getter(names: list[str]) -> Callable[[object], tuple[object, ...]]:
    """Return what reads several attributes at once: a third of the time of one by one."""
    if len(names) == 1:
        return lambda found: (getattr(found, names[0]),)
    return attrgetter(*names) if names else lambda _: ()


def _same(value: object) -> object:
    return value


def _checked(kind: type) -> type:
    if not dataclasses.is_dataclass(kind):
        raise InternalError(f"{kind.__name__} is no dataclass, and has no fields to be written")
    return kind


def _mismatch(kind: type, message: type[Message], why: str) -> InternalError:
    return InternalError(
        f"{kind.__name__} and {message.DESCRIPTOR.full_name} differ: {why}; declare how it travels"
    )


def _ways(
    kind: type, name: str, hint: object, message: type[Message], field: FieldDescriptor
) -> _Ways:
    """Work out how one field is converted, from the two types."""
    origin, arguments = get_origin(hint), get_args(hint)
    entry = field.message_type
    is_map = entry is not None and entry.GetOptions().map_entry
    ways: _Ways | None = None
    if origin in (Union, types.UnionType) and type(None) in arguments and field.has_presence:
        (inner,) = (argument for argument in arguments if argument is not type(None))
        one = _single(inner, field)
        ways = None if one is None else _Ways(one.write, one.read, has_presence=True)
    elif origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        one = _single(arguments[0], field) if field.is_repeated and not is_map else None
        ways = None if one is None else _Ways(_each(one.write), _each(one.read))
    elif entry is not None and is_map and origin is Mapping:
        parts = _fields_of(GetMessageClass(entry))
        key, value = (_single(arguments[i], parts[part]) for i, part in enumerate(("key", "value")))
        ways = _Ways(_to_dict, _to_dict) if key == value == _Ways() else None
    elif entry is not None and entry.full_name == _STRUCT and arguments == (str, object):
        ways = None if field.is_repeated else _Ways(_write_struct, _read_struct)
    elif field.name.endswith("_json") and arguments == (str, object):
        ways = _json_of(field.name)
    elif not field.is_repeated:
        ways = _single(hint, field)
    if ways is None:
        raise _mismatch(kind, message, f"{name} is {hint}, and {field.name} of another type")
    return ways


def _single(hint: object, field: FieldDescriptor) -> _Ways | None:
    """Work out how a single value is converted; None where the types do not go together."""
    if isinstance(hint, type):
        if hint in _TEXTS:
            return _Ways() if field.type == _TEXTS[hint] else None
        if hint in _SCALARS and field.cpp_type in _SCALARS[hint]:
            return _Ways()
        if field.message_type is None:
            return None
        found = GetMessageClass(field.message_type)
        if hint is float and found is Timestamp:
            return _Ways(_write_time, _read_time)
        return _nested(hint, found) if dataclasses.is_dataclass(hint) else None
    if get_origin(hint) is Literal and field.enum_type is not None:
        return _enum(get_args(hint), field.enum_type)
    return None


def _nested(kind: type, message: type[Message]) -> _Ways:
    """Convert a value within a value; its own pair may be declared later than the outer one."""
    _inner.add((kind, message))
    return _Ways(
        lambda found: _plan(kind, message).write(found),
        lambda found: _plan(kind, message).read(cast("Message", found)),
    )


def _enum(names: tuple[object, ...], found: EnumDescriptor) -> _Ways | None:
    """Pair the names of a Literal with the numbers of an enum, but the first: it is "unset"."""
    prefix = found.values[0].name.removesuffix("UNSPECIFIED")
    numbers: dict[object, object] = {
        value.name.removeprefix(prefix).lower(): value.number for value in found.values[1:]
    }
    if set(names) != set(numbers):
        return None
    known = {number: name for name, number in numbers.items()}

    def read(number: object) -> object:
        if number not in known:
            raise InvalidInput(
                f"{found.name} is number {number}, wanted one of {known}: is the other side newer "
                "than this one?"
            )
        return known[number]

    return _Ways(lambda name: numbers[name], read)


def _names_of(collection: str, *, is_repeated: bool) -> _Ways:
    def write(found: object) -> object:
        return to_name(collection, str(found))

    def read(found: object) -> object:
        return from_name(collection, str(found))

    return _Ways(_each(write), _each(read)) if is_repeated else _Ways(write, read)


def _json_of(field: str) -> _Ways:
    return _Ways(
        lambda found: to_json(cast("Mapping[str, object]", found)),
        lambda text: from_json(str(text), field),
    )


def _each(convert: Convert | None) -> Convert:
    if convert is None:
        return lambda found: tuple(cast("Iterable[object]", found))
    return lambda found: tuple(convert(item) for item in cast("Iterable[object]", found))


def _to_dict(found: object) -> object:
    return dict(cast("Mapping[object, object]", found))


def _write_struct(found: object) -> object:
    return to_struct(cast("Mapping[str, object]", found))


def _read_struct(found: object) -> object:
    return from_struct(cast("Struct", found))


def _write_time(seconds: object) -> object:
    return to_time(cast("float", seconds))


def _read_time(stamp: object) -> object:
    return from_time(cast("Timestamp", stamp))


__all__ = ["Joined", "check_inner", "declare", "from_message", "to_message"]
