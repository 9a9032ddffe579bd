"""Messages whose last field is a large payload, without the copies that protobuf makes.

Every such message has ``bytes payload = 15``; others pass through as they are. Sending joins the
small fields and the payload once; receiving parses the small fields and looks at the payload where
it lies. The bytes are what stock protobuf writes, and everything that stock protobuf accepts is
accepted with the same meaning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from isogloss.errors import InvalidInput

MAX_LIST = 4096
"""Most entries of a list in a request: one with 200,000 equal names had kept a thread for 28 s."""
_LONG_LISTS = frozenset({"vocabulary"})
"""Lists whose bytes are limited elsewhere."""
MESSAGE_BYTES = 16 << 20
"""Largest message in either direction."""

_PAYLOAD_TAG = 15 << 3 | 2
_MAX_VARINT = 10


HeadT = TypeVar("HeadT", bound=Message)
HeadT_co = TypeVar("HeadT_co", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Framed(Generic[HeadT_co]):
    """A message apart from its payload."""

    head: HeadT_co
    """The small fields; its own ``payload`` is empty."""
    payload: Sequence[memoryview]
    """Contiguous bytes whose concatenation is the payload; one piece when received."""

    @property
    def payload_bytes(self) -> int:
        """Length of the payload."""
        return sum(piece.nbytes for piece in self.payload)


def encode(message: Framed[Message]) -> bytes:
    """Serialise with one copy of the payload."""
    size = message.payload_bytes
    head = message.head.SerializeToString()
    if not size:
        return head
    return b"".join((head, bytes((_PAYLOAD_TAG,)), _varint(size), *message.payload))


def decode(kind: type[HeadT], raw: bytes) -> Framed[HeadT]:
    """Parse a message without copying its payload, if that is the last field.

    Args:
        kind: type of the message.
        raw: the encoded message; a view of it is kept.

    Returns:
        The small fields, and a view of the payload.

    Raises:
        DecodeError: protobuf refuses the bytes.
    """
    if "payload" not in kind.DESCRIPTOR.fields_by_name:
        return Framed(head=kind.FromString(raw), payload=())
    found = _find_payload(raw)
    if found is not None:
        tag, start = found
        return Framed(head=kind.FromString(raw[:tag]), payload=(memoryview(raw)[start:],))
    head = kind.FromString(raw)
    payload: bytes = getattr(head, "payload")  # noqa: B009 - the type has it, as checked above
    head.ClearField("payload")
    return Framed(head=head, payload=(memoryview(payload),) if payload else ())


def parse(kind: type[HeadT], raw: bytes) -> HeadT:
    """Read a request.

    Args:
        kind: its type.
        raw: its bytes.

    Returns:
        The request.

    Raises:
        InvalidInput: the bytes are none, or a list in it is longer than a call answers: each name
            costs a look at the store.
    """
    try:
        request = kind.FromString(raw)
    except DecodeError as error:
        raise InvalidInput(f"the request is no {kind.DESCRIPTOR.full_name}: {error}") from error
    for field, value in request.ListFields():
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if is_list and field.name not in _LONG_LISTS and len(value) > MAX_LIST:
            raise InvalidInput(
                f"{field.name} has {len(value)} entries, wanted at most {MAX_LIST}: ask in parts"
            )
    return request


def pieces_between(pieces: Sequence[memoryview], start: int, stop: int) -> list[memoryview]:
    """Return the bytes ``[start, stop)`` of the concatenation of flat ``pieces``, uncopied."""
    if not 0 <= start <= stop:
        raise InvalidInput(f"bytes [{start}, {stop}) must be a range from 0 on")
    found: list[memoryview] = []
    offset = 0
    for piece in pieces:
        low, high = max(start - offset, 0), min(stop - offset, piece.nbytes)
        if low < high:
            found.append(piece[low:high])
        offset += piece.nbytes
    return found


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _find_payload(raw: bytes) -> tuple[int, int] | None:
    """Find the payload field of an encoded message, where it is the message's last field.

    Lets :func:`decode` leave the payload uncopied in ``raw``.

    Returns:
        Where the field's tag begins and where its bytes begin. None where the payload is absent or
        not the last field, and where the message holds a tag of several bytes or a group: the
        caller then lets protobuf parse the whole message.
    """
    at, size = 0, len(raw)
    while at < size:
        tag = raw[at]
        if tag >= 0x80:
            return None
        wire_type = tag & 7
        if wire_type == 2:
            length = _read_varint(raw, at + 1)
            if length is None:
                return None
            value, start = length
            if tag == _PAYLOAD_TAG:
                return (at, start) if start + value == size else None
            at = start + value
        elif wire_type == 0:
            skipped = _read_varint(raw, at + 1)
            if skipped is None:
                return None
            at = skipped[1]
        elif wire_type == 1:
            at += 9
        elif wire_type == 5:
            at += 5
        else:
            return None
    return None


def _read_varint(raw: bytes, at: int) -> tuple[int, int] | None:
    """Read a varint: (value, offset behind it), or None where it is cut off or too long."""
    value = 0
    for i, byte in enumerate(raw[at : at + _MAX_VARINT]):
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, at + i + 1
    return None
