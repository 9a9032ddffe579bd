"""Settings with defaults: between keyword dictionaries and messages of optional fields."""

from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from isogloss.errors import InvalidInput
from isogloss.service.values.arguments import Setting
from isogloss.service.wire.scalars import from_struct

MessageT = TypeVar("MessageT", bound=Message)


def set_fields(message: Message) -> dict[str, object]:
    """Return the fields that are set, by name; what is unset keeps its default below."""
    return {
        field.name: list(value) if field.is_repeated else _plain(value)
        for field, value in message.ListFields()
    }


def _plain(value: object) -> object:
    return from_struct(value) if isinstance(value, Struct) else value


def fill(message: MessageT, values: Mapping[str, Setting]) -> MessageT:
    """Set fields by name and return the message; None leaves a field unset.

    Args:
        message: is changed.
        values: by name of the field.

    Returns:
        The same message.

    Raises:
        InvalidInput: there is no such field, or it holds another type.
    """
    fields = {field.name: field for field in message.DESCRIPTOR.fields}
    for name, value in values.items():
        if name not in fields:
            raise InvalidInput(f"no setting {name!r}; there are: {', '.join(sorted(fields))}")
        if value is None:
            continue
        try:
            is_bool = fields[name].type == FieldDescriptor.TYPE_BOOL
            _set(message, name, value, is_repeated=fields[name].is_repeated, is_bool=is_bool)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"setting {name} is {value!r}, a {type(value).__name__}: {error}"
            ) from error
    return message


def _set(message: Message, name: str, value: Setting, *, is_repeated: bool, is_bool: bool) -> None:
    if isinstance(value, bool) and not is_bool:
        raise TypeError("wanted a number or text")
    if is_repeated:
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)
