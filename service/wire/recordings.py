"""Between our values and messages: names, recordings, revisions, documents, lists."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeGuard, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from isogloss.errors import InvalidInput, InvalidName, ShapeError
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.proto.v1 import types_pb2 as types
from isogloss.service.values.results import RecordingInfo
from isogloss.store import Document, ModelInfo, RecordingSpec, Revision, SiteSpec

T = TypeVar("T")

DEFAULT_PAGE = 50
MAX_PAGE = 1000

_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
_DTYPES: Mapping[types.Dtype.ValueType, Literal["bfloat16", "float16", "float32"]] = {
    types.DTYPE_BFLOAT16: "bfloat16",
    types.DTYPE_FLOAT16: "float16",
    types.DTYPE_FLOAT32: "float32",
}
_DTYPE_NUMBERS = {name: number for number, name in _DTYPES.items()}


def to_name(collection: str, id: str) -> str:  # noqa: A002 - the glossary's word
    """Return the resource name of an id, such as ``recordings/a``.

    Raises:
        InvalidName: the id is malformed.
    """
    if not _ID.fullmatch(id):
        raise InvalidName(
            f"id {id!r} is not of the form [a-z][a-z0-9-]{{0,62}}: use lower-case letters, digits "
            "and hyphens, starting with a letter"
        )
    return f"{collection}/{id}"


def from_name(collection: str, name: str) -> str:
    """Return the id in a resource name.

    Raises:
        InvalidName: the name is not of that collection, or its id is malformed.
    """
    head, _, found = name.partition("/")
    if head != collection or not _ID.fullmatch(found):
        raise InvalidName(
            f"name {name!r} is not of the form {collection}/ID with an ID like "
            "[a-z][a-z0-9-]{0,62}"
        )
    return found


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


def to_revision(revision: Revision) -> types.Revision:
    """Return a revision as a message."""
    return types.Revision(
        id=revision.id,
        recording_uid=revision.recording,
        lanes=[types.LaneRows(lane=lane, rows=rows) for lane, rows in revision.lanes],
    )


def from_revision(message: types.Revision) -> Revision:
    """Read a revision from a message."""
    return Revision(
        recording=message.recording_uid,
        lanes=tuple((lane.lane, lane.rows) for lane in message.lanes),
    )


def to_spec(spec: RecordingSpec) -> pb.Recording:
    """Return the description of a recording as a message."""
    return pb.Recording(
        name=to_name("recordings", spec.recording),
        model=pb.Model(
            name=spec.model.name,
            revision=spec.model.revision,
            ancestry_json=to_json(spec.model.ancestry),
        ),
        tokenizer=spec.tokenizer,
        corpus=spec.corpus,
        sites=[
            pb.Site(name=site.name, width=site.width, dtype=to_dtype(site.dtype))
            for site in spec.sites
        ],
        has_spans=spec.has_spans,
        provenance=dict(spec.provenance),
        reject_nonfinite=spec.nonfinite == "reject",
    )


def from_spec(message: pb.Recording, recording: str) -> RecordingSpec:
    """Read the description of a recording from a message; ``recording`` is its id."""
    return RecordingSpec(
        recording=recording,
        model=ModelInfo(
            name=message.model.name,
            revision=message.model.revision,
            ancestry=from_json(message.model.ancestry_json, "ancestry_json"),
        ),
        tokenizer=message.tokenizer,
        corpus=message.corpus,
        sites=tuple(
            SiteSpec(name=site.name, width=site.width, dtype=from_dtype(site.dtype))
            for site in message.sites
        ),
        has_spans=message.has_spans,
        provenance=dict(message.provenance),
        nonfinite="reject" if message.reject_nonfinite else "count",
    )


def to_recording(info: RecordingInfo) -> pb.Recording:
    """Return a recording as a message."""
    message = to_spec(info.spec)
    message.uid = info.uid
    message.etag = info.etag
    message.revision.CopyFrom(to_revision(info.revision))
    message.rows = info.rows
    message.create_time.CopyFrom(to_time(info.created))
    return message


def from_recording(message: pb.Recording) -> RecordingInfo:
    """Read a recording from a message."""
    return RecordingInfo(
        uid=message.uid,
        etag=message.etag,
        spec=from_spec(message, from_name("recordings", message.name)),
        revision=from_revision(message.revision),
        created=from_time(message.create_time),
    )


def to_document(document: Document, *, with_text: bool) -> pb.Document:
    """Return a document as a message."""
    message = pb.Document(key=document.key, group=document.group)
    if with_text and document.text is not None:
        message.text = document.text
    return message


def from_document(message: pb.Document) -> Document:
    """Read a document from a message."""
    return Document(
        key=message.key,
        text=message.text if message.HasField("text") else None,
        group=message.group,
    )


def page_of(
    items: Sequence[T], key: Callable[[T], str], page_size: int, page_token: str
) -> tuple[list[T], str]:
    """Cut one page out of a list.

    Args:
        items: everything, in an order in which ``key`` grows.
        key: what names an item; the token of a page is the key of its last item.
        page_size: 0 for the default; more than the maximum is taken as the maximum.
        page_token: empty for the first page, else the token that came with the page before.

    Returns:
        The page, and the token of the next one, empty after the last.

    Raises:
        InvalidInput: a negative size, or a token that none of our answers held.
    """
    if page_size < 0:
        raise InvalidInput(f"page_size is {page_size}, wanted 0 (the default) or more")
    try:
        after = base64.b64decode(page_token.encode(), b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(
            f"page_token {page_token!r} is none of ours: pass next_page_token as it came"
        ) from error
    size = min(page_size or DEFAULT_PAGE, MAX_PAGE)
    rest = [item for item in items if key(item) > after] if after else list(items)
    page = rest[:size]
    more = len(rest) > size
    return page, base64.urlsafe_b64encode(key(page[-1]).encode()).decode() if more else ""


def offset_page(total: int, page_size: int, page_token: str) -> tuple[int, int, str]:
    """Cut one page out of ``total`` numbered items.

    Returns:
        First item, number of items, and the token of the next page, empty after the last.

    Raises:
        InvalidInput: a negative size, or a token that none of our answers held.
    """
    if page_size < 0:
        raise InvalidInput(f"page_size is {page_size}, wanted 0 (the default) or more")
    if page_token and not (page_token.isascii() and page_token.isdecimal()):
        raise InvalidInput(
            f"page_token {page_token!r} is none of ours: pass next_page_token as it came"
        )
    start = min(int(page_token or "0"), total)
    count = min(page_size or DEFAULT_PAGE, MAX_PAGE, total - start)
    return start, count, str(start + count) if start + count < total else ""
