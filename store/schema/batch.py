"""Batches: the rows that are appended together, in memory and encoded as bytes."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, NonFiniteRows, ResourceExhausted, ShapeError
from isogloss.short_repr import short_repr
from isogloss.store.schema.document import KEY_BYTES, Document, check_document
from isogloss.store.schema.json_fields import (
    SCHEMA_VERSION,
    check_version,
    get_count,
    get_items,
    get_text,
    is_mapping,
)
from isogloss.store.schema.names import check_text
from isogloss.store.schema.recording_spec import RecordingSpec, Rows, SiteSpec
from isogloss.store.schema.steps import check_step, join_steps, no_steps, one_step

_MAGIC = b"ISRB"
_PREFIX = struct.Struct("<4sI")
_MAX_PRODUCER = 256
_STEP_VERSION = 2
"""Schema version of the header of a batch whose step is not 0: who does not know steps refuses it.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """Largest sizes of one batch, checked before memory is allocated for it."""

    max_rows: int = 1 << 20
    """Rows of one batch."""

    max_documents: int = 1 << 16
    """Documents described by one batch."""

    max_header_bytes: int = 16 << 20
    """Bytes of the encoded header (names and document keys)."""

    max_text_bytes: int = 256 << 20
    """Bytes of all document texts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenColumns:
    """Token, document, position, code points and training step of some rows."""

    token_id: NDArray[np.generic]
    """uint32 ``[rows]``, in the tokenizer's vocabulary."""

    document: NDArray[np.generic]
    """uint64 ``[rows]``, :attr:`Document.id`."""

    position: NDArray[np.generic]
    """uint32 ``[rows]``, place in the model's input."""

    span: NDArray[np.generic] | None
    """uint32 ``[rows, 2]``, code points ``[start, end)`` of the document's text."""

    step: NDArray[np.generic] = field(default_factory=no_steps)
    """uint64 ``[rows]``, the training step at which the row was recorded; zeros by default. Where
    all rows have one step, the array holds it once and is read-only."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        rows = len(self.token_id)
        if self.step is no_steps():
            object.__setattr__(self, "step", one_step(0, rows))
        _check_column("token_id", self.token_id, np.uint32, (rows,))
        _check_column("document", self.document, np.uint64, (rows,))
        _check_column("position", self.position, np.uint32, (rows,))
        if self.span is not None:
            _check_column("span", self.span, np.uint32, (rows, 2))
        _check_column("step", self.step, np.uint64, (rows,))

    @property
    def rows(self) -> int:
        """Length of every column."""
        return len(self.token_id)

    def slice(self, start: int, stop: int) -> "TokenColumns":
        """Return rows ``[start, stop)`` as views."""
        return TokenColumns(
            token_id=self.token_id[start:stop],
            document=self.document[start:stop],
            position=self.position[start:stop],
            span=None if self.span is None else self.span[start:stop],
            step=self.step[start:stop],
        )

    @classmethod
    def concatenate(cls, parts: Sequence["TokenColumns"], has_spans: bool) -> "TokenColumns":
        """Join columns row-wise; no parts give columns of no rows."""
        spans = [part.span for part in parts if part.span is not None]
        return cls(
            token_id=_join([part.token_id for part in parts], np.uint32, (0,)),
            document=_join([part.document for part in parts], np.uint64, (0,)),
            position=_join([part.position for part in parts], np.uint32, (0,)),
            span=_join(spans, np.uint32, (0, 2)) if has_spans else None,
            step=join_steps([part.step for part in parts]),
        )


def _join(
    parts: Sequence[NDArray[np.generic]], dtype: type[np.generic], empty: tuple[int, ...]
) -> NDArray[np.generic]:
    return np.concatenate(parts) if parts else np.empty(empty, dtype)


def _check_column(
    name: str, column: NDArray[np.generic], dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    if column.dtype != np.dtype(dtype) or column.shape != shape:
        raise ShapeError(
            f"column {name!r} is {column.dtype} {list(column.shape)}, wanted "
            f"{np.dtype(dtype)} {list(shape)}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RowBatch:
    """All sites and token columns of some rows, under one sequence number of its producer."""

    producer: str
    """Name of the stream of batches, such as a training rank."""

    sequence: int
    """1 for the producer's first batch, and one more for each that follows."""

    sites: Mapping[str, Rows]
    """Every site of the recording by name, ``[rows, width]`` in the site's dtype."""

    token_id: NDArray[np.generic]
    """uint32 ``[rows]``."""

    document: NDArray[np.generic]
    """uint64 ``[rows]``, :attr:`Document.id`."""

    position: NDArray[np.generic]
    """uint32 ``[rows]``, place in the model's input."""

    span: NDArray[np.generic] | None = None
    """uint32 ``[rows, 2]``, code points ``[start, end)``; None where the recording has none."""

    documents: tuple[Document, ...] = ()
    """Documents first seen in this batch; sending an equal one again is fine."""

    step: int = 0
    """The training step at which all rows of the batch were recorded, in ``[0, 2**64)``; 0 outside
    training."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not self.producer or len(self.producer) > _MAX_PRODUCER:
            raise InvalidInput(
                f"producer name has {len(self.producer)} characters, wanted 1 to {_MAX_PRODUCER}"
            )
        check_text(self.producer, "producer name")
        for document in self.documents:
            check_document(document)
        if not 1 <= self.sequence < 1 << 63:
            raise InvalidInput(f"sequence {self.sequence} must be in [1, 2**63)")
        object.__setattr__(self, "step", check_step(self.step))
        # a caller may fill its mapping again for the next batch before this one is on the disk
        object.__setattr__(self, "sites", dict(self.sites))
        rows = self.columns.rows
        if rows < 1:
            raise ShapeError("a batch has no rows: send at least one")
        for name, values in self.sites.items():
            if values.ndim != 2 or len(values) != rows:
                raise ShapeError(
                    f"site {name!r} is {list(values.shape)} and token_id has {rows} rows: "
                    "give every site and column the same rows"
                )

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return len(self.token_id)

    @property
    def columns(self) -> TokenColumns:
        """The token columns."""
        return TokenColumns(
            token_id=self.token_id,
            document=self.document,
            position=self.position,
            span=self.span,
            step=one_step(self.step, self.rows),
        )

    def check(self, spec: RecordingSpec) -> None:
        """Raise an error for a batch that does not fit the recording.

        Args:
            spec: the recording it is to be appended to.

        Raises:
            ShapeError: a site is missing, unknown, or of the wrong width or dtype; or the batch has
                spans (code points of each row) and the recording none, or the other way round.
            NonFiniteRows: a row holds NaN or infinity and the recording refuses them.
        """
        wanted = {site.name: site for site in spec.sites}
        if self.sites.keys() != wanted.keys():
            raise ShapeError(
                f"batch has sites {sorted(self.sites)}, recording {spec.recording!r} has "
                f"{sorted(wanted)}: send all of them and no others"
            )
        for name, values in self.sites.items():
            site = wanted[name]
            if values.shape[1] != site.width or values.dtype != site.numpy_dtype:
                raise ShapeError(
                    f"site {name!r} is {values.dtype} {list(values.shape)}, wanted {site.dtype} "
                    f"[rows, {site.width}]"
                )
            if spec.nonfinite == "reject":
                _refuse_nonfinite(name, values)
        if (self.span is not None) != spec.has_spans:
            raise ShapeError(
                f"batch {'has' if self.span is not None else 'lacks'} spans and recording "
                f"{spec.recording!r} was created with has_spans={spec.has_spans}"
            )

    def encode(self) -> list[bytes | memoryview]:
        """Return the batch as pieces of bytes, which :meth:`decode` reads when they are joined.

        Arrays are not copied.
        """
        texts = [None if d.text is None else d.text.encode() for d in self.documents]
        header = json.dumps(
            {
                "schema_version": _STEP_VERSION if self.step else SCHEMA_VERSION,
                "producer": self.producer,
                "sequence": self.sequence,
                "rows": self.rows,
                "sites": list(self.sites),
                "has_spans": self.span is not None,
                "documents": [
                    [document.key.hex(), document.group, -1 if text is None else len(text)]
                    for document, text in zip(self.documents, texts, strict=True)
                ],
                **({"step": self.step} if self.step else {}),
            }
        ).encode()
        header += b" " * (-(_PREFIX.size + len(header)) % 8)
        pieces: list[bytes | memoryview] = [_PREFIX.pack(_MAGIC, len(header)), header]
        arrays = [*self.sites.values(), self.token_id, self.document, self.position]
        if self.span is not None:
            arrays.append(self.span)
        for array in arrays:
            flat = as_bytes(array)
            pieces.append(memoryview(flat))  # pyright: ignore[reportArgumentType] - numpy declares no __buffer__ before 3.12
            pieces.append(bytes(-len(flat) % 8))
        pieces.extend(text for text in texts if text)
        return pieces

    @classmethod
    def decode(
        cls,
        buffer: bytes | bytearray | memoryview,
        spec: RecordingSpec,
        limits: BatchLimits | None = None,
    ) -> "RowBatch":
        """Read an encoded batch; its arrays are views of ``buffer``.

        Args:
            buffer: the joined pieces of :meth:`encode`.
            spec: specification of the recording; sites, widths and dtypes are taken from here
                alone.
            limits: largest sizes of a batch.

        Returns:
            The batch, checked against ``spec``.

        Raises:
            InvalidInput: the bytes are no batch, or are fewer or more than their header says.
            ResourceExhausted: the batch is larger than a limit.
            ShapeError: the batch does not fit the recording.
        """
        cursor, limits = _Cursor(memoryview(buffer).cast("B")), limits or BatchLimits()
        header = _read_header(cursor, limits)
        texts = _document_heads(header)
        text_bytes = _check_texts(texts, limits)
        rows = get_count(header, "rows")
        has_spans = header.get("has_spans") is True
        by_name = {site.name: site for site in spec.sites}
        named = get_items(header, "sites")
        if sorted(map(str, named)) != sorted(by_name):
            raise ShapeError(
                f"batch has sites {named}, recording {spec.recording!r} has {sorted(by_name)}"
            )
        _check_size(cursor, rows, [by_name[str(name)] for name in named], has_spans, text_bytes)
        sites = {
            str(name): cursor.array(
                by_name[str(name)].numpy_dtype, (rows, by_name[str(name)].width)
            )
            for name in named
        }
        batch = cls(
            producer=get_text(header, "producer"),
            sequence=get_count(header, "sequence"),
            sites=sites,
            token_id=cursor.array(np.dtype(np.uint32), (rows,)),
            document=cursor.array(np.dtype(np.uint64), (rows,)),
            position=cursor.array(np.dtype(np.uint32), (rows,)),
            span=cursor.array(np.dtype(np.uint32), (rows, 2)) if has_spans else None,
            documents=tuple(
                Document(key=key, group=group, text=cursor.text(length))
                for key, group, length in texts
            ),
            step=get_count(header, "step") if header["schema_version"] == _STEP_VERSION else 0,
        )
        batch.check(spec)
        return batch


def as_bytes(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return the bytes of an array row by row: a view where it is contiguous, else a copy."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _refuse_nonfinite(name: str, values: Rows) -> None:
    finite = finite_rows(values)
    if not finite.all():
        raise NonFiniteRows(
            f"site {name!r} has {int((~finite).sum())} rows with NaN or infinity, the first at "
            f"{int(np.argmin(finite))}: drop them, or create the recording with nonfinite='count'"
        )


def finite_rows(values: Rows) -> NDArray[np.bool_]:
    """Return which rows hold only finite numbers, ``[rows]``."""
    exponents = {"bfloat16": 0x7F80, "float16": 0x7C00, "float32": 0x7F800000}
    mask = exponents[values.dtype.name]
    bits = values.view(np.uint16 if values.dtype.itemsize == 2 else np.uint32)
    return ((bits & bits.dtype.type(mask)) != mask).all(axis=1)


class _Cursor:
    """Reads an encoded batch from its start to its end: header, arrays, then document texts.

    Behind each array stand zero to seven bytes of padding, so that the next begins at a multiple of
    8; behind a text there are none.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._offset = 0

    @property
    def left(self) -> int:
        return len(self._buffer) - self._offset

    def take(self, length: int) -> memoryview:
        if length > self.left:
            raise InvalidInput(f"batch ends after {self.left} of {length} bytes: it was cut short")
        self._offset += length
        return self._buffer[self._offset - length : self._offset]

    def array(self, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
        count = math.prod(shape)
        length, start = dtype.itemsize * count, self._offset
        self.take(length + -length % 8)
        return np.frombuffer(self._buffer, dtype, count, start).reshape(shape)

    def text(self, length: int) -> str | None:
        if length < 0:
            return None
        try:
            return str(self.take(length), "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"document text is not UTF-8: {error}") from error


def _read_header(cursor: _Cursor, limits: BatchLimits) -> Mapping[str, object]:
    magic, length = _PREFIX.unpack(cursor.take(_PREFIX.size))
    if magic != _MAGIC:
        raise InvalidInput(f"batch starts with {magic!r}, wanted {_MAGIC!r}")
    if length > limits.max_header_bytes:
        raise ResourceExhausted(
            f"batch header has {length} bytes, the limit is {limits.max_header_bytes}: "
            "describe fewer documents in one batch"
        )
    try:
        header: object = json.loads(str(cursor.take(length), "utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"batch header is not JSON: {error}") from error
    if not is_mapping(header):
        raise InvalidInput("batch header is no JSON object")
    check_version(header, "batch", (SCHEMA_VERSION, _STEP_VERSION))
    if not 1 <= get_count(header, "rows") <= limits.max_rows:
        raise ResourceExhausted(
            f"batch has {header['rows']} rows, wanted 1 to {limits.max_rows}: split it"
        )
    if len(get_items(header, "documents")) > limits.max_documents:
        raise ResourceExhausted(
            f"batch describes {len(get_items(header, 'documents'))} documents, the limit is "
            f"{limits.max_documents}: split it"
        )
    return header


def _document_heads(header: Mapping[str, object]) -> list[tuple[bytes, str, int]]:
    heads: list[tuple[bytes, str, int]] = []
    for item in get_items(header, "documents"):
        match item:
            case [str() as key, str() as group, int() as length] if len(key) == 2 * KEY_BYTES:
                try:
                    heads.append((bytes.fromhex(key), group, length))
                except ValueError as error:
                    raise InvalidInput(f"document key {key!r} is not hexadecimal") from error
            case _:
                raise InvalidInput(f"document entry {item!r} is not [key, group, bytes]")
    return heads


def _check_texts(heads: Sequence[tuple[bytes, str, int]], limits: BatchLimits) -> int:
    """Return how many bytes the texts of documents have, unless those are too many."""
    text_bytes = sum(max(length, 0) for _, _, length in heads)
    if text_bytes > limits.max_text_bytes:
        raise ResourceExhausted(
            f"batch has {text_bytes} bytes of text, the limit is {limits.max_text_bytes}: split it"
        )
    return text_bytes


def _check_size(
    cursor: _Cursor, rows: int, sites: Sequence[SiteSpec], has_spans: bool, text_bytes: int
) -> None:
    sections = [rows * site.row_bytes for site in sites]
    sections += [4 * rows, 8 * rows, 4 * rows, *([8 * rows] if has_spans else [])]
    wanted = sum(length + -length % 8 for length in sections) + text_bytes
    if cursor.left != wanted:
        raise InvalidInput(
            f"batch of {rows} rows has {cursor.left} bytes after its header, wanted {wanted}: it "
            "was cut short, or its header lies"
        )
