"""Messages for a fuzzer: filled by their descriptors, with values that mean something, then broken.

What is made for a number of a seed is the same each time, but for the etags and names that a server
gave meanwhile.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.wire.methods import Method
from service_figures.served import parts

MARK = "zq7fuzzmark"
"""In every name that tries to lead out of the store: no file may ever be called so."""
_TEXTS = (
    "",
    "a",
    f"../../{MARK}",
    f"/tmp/{MARK}",
    f"recordings/../../../{MARK}",
    f"recordings/{MARK}/../..",
    f"file:///tmp/{MARK}",
    "\x00",
    "a\nb",
    "é\U0001f600",
    "%s%n{0}",
    "null",
    "{}",
    '{"a":' * 50,
    "1e400",
    "x" * 5000,
)
_WHOLE = (0, 1, 2, 3, 7, 8, 63, 64, 1000, 1001, 65_536, (1 << 31) - 1, 1 << 40, (1 << 63) - 1)
_NUMBERS = (0.0, -0.0, 0.25, 1.0, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))
_PARTS = 4
_DEEPEST = 4
_LARGEST_LIST = 5000


@dataclass
class Known:
    """What is on the server now."""

    texts: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: MappingProxyType[str, Sequence[str]]({})
    )
    """By name of a field, values that mean something there."""
    names: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: MappingProxyType[str, Sequence[str]]({})
    )
    """By word in a request's type, such as ``Recording``, names that exist."""


class Maker:
    """Makes the messages of one execution."""

    def __init__(self, seed: int, number: int, known: Known) -> None:
        self.chance = random.Random(f"{seed} {number}")
        self._known = known
        self._is_sane = self.chance.random() < 0.5

    def messages(self, method: Method) -> list[bytes]:
        """Return what is sent in one call: one message, or several where it takes a stream."""
        if method.takes_stream:
            return self._appended()
        return [self._broken(self._bytes(method.request))]

    def _appended(self) -> list[bytes]:
        """Return a header and some parts, some of them broken."""
        sane = [pb.AppendRequest(header=pb.AppendHeader(recording="recordings/a", producer="p"))]
        for sequence in range(1, self.chance.randrange(_PARTS)):
            for part in parts(1 << 14, "p", sequence, self.chance.choice((1 << 20, 5000, 777))):
                message = pb.AppendRequest()
                message.CopyFrom(part.head)
                message.payload = b"".join(part.payload)
                sane.append(message)
        found = [message.SerializeToString() for message in sane]
        for at in range(len(found)):
            if self.chance.random() < 0.3:
                found[at] = self._broken(found[at])
            elif self.chance.random() < 0.1:
                found[at] = self._bytes(pb.AppendRequest)
        if self.chance.random() < 0.1:
            found.reverse()
        return found

    def _bytes(self, kind: type[Message]) -> bytes:
        message = kind()
        self._fill(message, 0)
        return message.SerializeToString()

    def _fill(self, message: Message, depth: int) -> None:
        """Set most fields of a message."""
        for one in cast("Sequence[FieldDescriptor]", message.DESCRIPTOR.fields):
            if self.chance.random() < (0.45 if self._is_sane else 0.3):
                continue
            if one.message_type is not None and one.message_type.GetOptions().map_entry:
                self._fill_map(message, one)
            elif one.is_repeated:
                self._fill_list(message, one, depth)
            elif one.message_type is not None:
                if depth < _DEEPEST:
                    self._fill(getattr(message, one.name), depth + 1)
            else:
                setattr(message, one.name, self._value(one, message.DESCRIPTOR.name))

    def _fill_map(self, message: Message, one: FieldDescriptor) -> None:
        entry = cast("Descriptor", one.message_type)
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        made = getattr(message, one.name)
        for _ in range(self.chance.randrange(3)):
            at = self._value(key, message.DESCRIPTOR.name)
            if value.message_type is None:
                made[at] = self._value(value, message.DESCRIPTOR.name)
            else:
                self._fill(made[at], _DEEPEST)

    def _fill_list(self, message: Message, one: FieldDescriptor, depth: int) -> None:
        count = self.chance.choice((0, 1, 1, 2, 3))
        made = getattr(message, one.name)
        if one.message_type is not None:
            for _ in range(count if depth < _DEEPEST else 0):
                self._fill(made.add(), depth + 1)
            return
        if self.chance.random() < 0.01:
            made.extend([self._value(one, message.DESCRIPTOR.name)] * _LARGEST_LIST)
        made.extend(self._value(one, message.DESCRIPTOR.name) for _ in range(count))

    def _value(self, one: FieldDescriptor, owner: str) -> object:
        """Return a value of a field that is no message."""
        kind = one.cpp_type
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self.chance.random() < 0.7
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            kinds = cast("EnumDescriptor", one.enum_type)
            known = [value.number for value in kinds.values]
            return self.chance.choice(known if self._is_sane else [*known, 99, -1])
        if kind == FieldDescriptor.CPPTYPE_STRING:
            if one.type == FieldDescriptor.TYPE_BYTES:
                return self.chance.randbytes(self.chance.choice((0, 1, 8, 32, 1000)))
            return self._text(one.name, owner)
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return self.chance.choice(_NUMBERS[2:4] if self._is_sane else _NUMBERS)
        return self._whole(kind)

    def _text(self, name: str, owner: str) -> str:
        if self._is_sane or self.chance.random() < 0.5:
            if found := self._known.texts.get(name):
                return self.chance.choice(found)
            found = [
                each for word, some in self._known.names.items() if word in owner for each in some
            ]
            if name == "name" and found:
                return self.chance.choice(found)
        return self.chance.choice(_TEXTS)

    def _whole(self, kind: int) -> int:
        value = self.chance.choice(_WHOLE[:6] if self._is_sane else _WHOLE)
        is_wide = kind in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
        if not is_wide:
            value = min(value, (1 << 31) - 1)
        is_signed = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
        return -value if is_signed and not self._is_sane and self.chance.random() < 0.2 else value

    def _broken(self, raw: bytes) -> bytes:
        """Return bytes as they are, or damaged in some way, or others."""
        draw = self.chance.random()
        if draw < (0.8 if self._is_sane else 0.4):
            return raw
        if draw > 0.97:
            return self.chance.randbytes(self.chance.choice((1, 3, 20, 500)))
        made = bytearray(raw)
        for _ in range(self.chance.choice((1, 1, 2, 5))):
            at = self.chance.randrange(len(made) + 1)
            way = self.chance.randrange(5)
            if way == 0 and at < len(made):
                made[at] ^= 1 << self.chance.randrange(8)
            elif way == 1:
                del made[at:]
            elif way == 2:
                made[at:at] = self.chance.randbytes(self.chance.choice((1, 2, 11)))
            elif way == 3:
                made += made[at:]
            else:
                made[at:at] = b"\xff" * self.chance.choice((1, 9, 10))
        return bytes(made)
