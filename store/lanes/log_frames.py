"""The commit log of a lane: frames that each prove one group of rows, with their token columns.

A frame is 32 bytes of head and a payload, a multiple of 8 bytes long, little endian::

    magic "ISOF" | version u16 | kind u16 | epoch u64 | number u64 | payload bytes u32 | crc32c u32

The checksum covers the head without itself, and the payload. Frame 0 describes the lane; every
other is a commit. ``docs/store-format.md`` says what the payloads hold.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem, read_range
from isogloss.store.schema.batch import TokenColumns, as_bytes
from isogloss.store.schema.document import Document
from isogloss.store.schema.json_fields import (
    SCHEMA_VERSION,
    get_count,
    get_items,
    get_mapping,
    is_mapping,
)
from isogloss.store.schema.steps import StepRun, check_step, step_column, step_runs
from isogloss.store.shards.byte_range import ByteRange

MAGIC = b"ISOF"
HEAD = struct.Struct("<4sHHQQII")
KIND_LANE = 1
KIND_COMMIT = 2
_LENGTH = struct.Struct("<Q")
_MAX_PAYLOAD = (1 << 32) - 8
_JOINED_BYTES = 256 << 10
"""Up to this size one copy is cheaper than a checksum and a vector entry for each piece."""
_encode_json = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitFrame:
    """One group commit: rows ``[first_row, first_row + rows)`` of the lane."""

    first_row: int
    """Rows of the lane before this commit."""

    rows: int
    """Rows it adds."""

    time_s: float
    """Wall clock of the writer; nothing depends on it."""

    cursors: Mapping[str, int]
    """Last sequence number of each producer that the commit advanced."""

    ranges: tuple[ByteRange, ...]
    """Where in the site files the commit's rows are, with their checksums."""

    columns: TokenColumns
    """Token columns of its rows."""

    documents: tuple[Document, ...]
    """Documents it describes for the first time."""

    def to_buffers(self) -> list[bytes | NDArray[np.uint8]]:
        """Return the payload as pieces, columns uncopied."""
        texts = [None if d.text is None else d.text.encode() for d in self.documents]
        document: dict[str, object] = {
            "first_row": self.first_row,
            "rows": self.rows,
            "time_s": self.time_s,
            "cursors": dict(self.cursors),
            "ranges": [[r.site, r.shard, r.offset, r.length, r.checksum] for r in self.ranges],
            "has_spans": self.columns.span is not None,
            "documents": [
                [d.key.hex(), d.group, -1 if text is None else len(text)]
                for d, text in zip(self.documents, texts, strict=True)
            ],
        }
        runs = step_runs(self.columns.step)
        if any(step for step, _ in runs):
            document["steps"] = [[step, rows] for step, rows in runs]
        pieces = _json_buffers(document)
        columns = [self.columns.token_id, self.columns.document, self.columns.position]
        if self.columns.span is not None:
            columns.append(self.columns.span)
        for column in columns:
            flat = as_bytes(column)
            pieces += [flat, bytes(-flat.nbytes % 8)]
        blob = b"".join(text for text in texts if text)
        pieces += [blob, bytes(-len(blob) % 8)]
        return [piece for piece in pieces if len(piece)]

    @classmethod
    def from_payload(cls, payload: NDArray[np.uint8]) -> "CommitFrame":
        """Read a commit from a frame's payload whose checksum was right; its arrays are views.

        Args:
            payload: the frame's payload.

        Returns:
            The commit.

        Raises:
            CorruptData: the payload is no commit although its checksum is right, so a defect wrote
                it.
        """
        try:
            return _parse_commit(payload)
        except (InvalidInput, ValueError, KeyError, TypeError) as error:
            raise CorruptData(f"commit frame cannot be read: {error}") from error


def _json_buffers(document: Mapping[str, object]) -> list[bytes | NDArray[np.uint8]]:
    text = _encode_json(document).encode()
    return [_LENGTH.pack(len(text)), text, bytes(-len(text) % 8)]


def read_payload_json(payload: NDArray[np.uint8]) -> tuple[Mapping[str, object], int]:
    """Return the JSON head of a payload and where the bytes after it start."""
    (length,) = _LENGTH.unpack(payload[: _LENGTH.size].tobytes())
    end = _LENGTH.size + length
    if end > len(payload):
        raise CorruptData(f"frame's JSON has {length} bytes and its payload {len(payload)}")
    document: object = json.loads(payload[_LENGTH.size : end].tobytes())
    if not is_mapping(document):
        raise CorruptData("frame's JSON is no object")
    return document, end + -end % 8


def _parse_commit(payload: NDArray[np.uint8]) -> CommitFrame:
    document, offset = read_payload_json(payload)
    rows = get_count(document, "rows")
    has_spans = document.get("has_spans") is True

    def column(dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
        nonlocal offset
        length = np.dtype(dtype).itemsize * int(np.prod(shape))
        flat = payload[offset : offset + length]
        offset += length + -length % 8
        return flat.view(dtype).reshape(shape)

    columns = TokenColumns(
        token_id=column(np.uint32, (rows,)),
        document=column(np.uint64, (rows,)),
        position=column(np.uint32, (rows,)),
        span=column(np.uint32, (rows, 2)) if has_spans else None,
        step=step_column(_parse_runs(document, rows)),
    )
    documents: list[Document] = []
    for key, group, length in [tuple(item) for item in get_items(document, "documents")]:  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType, reportArgumentType] - our own bytes, checksummed; a wrong shape raises
        text = None if length < 0 else payload[offset : offset + length].tobytes().decode()
        offset += max(length, 0)
        documents.append(Document(key=bytes.fromhex(key), group=group, text=text))
    return CommitFrame(
        first_row=get_count(document, "first_row"),
        rows=rows,
        time_s=float(str(document["time_s"])),
        cursors={
            name: get_count(get_mapping(document, "cursors"), name)
            for name in get_mapping(document, "cursors")
        },
        ranges=tuple(
            ByteRange(site=r[0], shard=r[1], offset=r[2], length=r[3], checksum=r[4])  # pyright: ignore[reportIndexIssue, reportUnknownArgumentType] - as above
            for r in get_items(document, "ranges")
        ),
        columns=columns,
        documents=tuple(documents),
    )


def _parse_runs(document: Mapping[str, object], rows: int) -> list[StepRun]:
    """Return the steps of a commit's rows; the columns check that they are as many as the rows."""
    if "steps" not in document:
        return [(0, rows)]
    runs: list[StepRun] = []
    for item in get_items(document, "steps"):
        match item:
            case [int() as step, int() as count] if count > 0:
                runs.append((check_step(step), count))
            case _:
                raise InvalidInput(f"run of steps {item!r} is not [step, rows]")
    if sum(count for _, count in runs) != rows:
        raise InvalidInput(f"steps {runs} are not of the commit's {rows} rows")
    return runs


def encode_frame(
    kind: int, epoch: int, number: int, payload: Sequence[bytes | NDArray[np.uint8]]
) -> list[bytes | NDArray[np.uint8]]:
    """Return a frame as pieces ready to be written.

    Args:
        kind: ``KIND_LANE``, ``KIND_COMMIT`` or one of a fenced lane.
        epoch: the lane's epoch.
        number: place in the log, from 0.
        payload: in pieces; their lengths add up to a multiple of 8.

    Returns:
        The pieces in order.

    Raises:
        InvalidInput: the payload passes 4 GiB.
    """
    length = sum(len(piece) for piece in payload)
    if length > _MAX_PAYLOAD:
        raise InvalidInput(f"commit of {length} bytes of columns passes 4 GiB: commit fewer rows")
    head = HEAD.pack(MAGIC, SCHEMA_VERSION, kind, epoch, number, length, 0)[:-4]
    checksum = crc32c(head)
    if length < _JOINED_BYTES:
        joined = b"".join(payload)  # pyright: ignore[reportArgumentType] - numpy declares no __buffer__ before 3.12
        checksum = crc32c(joined, checksum)
        return [b"".join((head, struct.pack("<I", checksum), joined))]
    for piece in payload:
        checksum = crc32c(piece, checksum)
    return [head, struct.pack("<I", checksum), *payload]


def lane_payload(document: Mapping[str, object]) -> list[bytes | NDArray[np.uint8]]:
    """Return the payload of frame 0."""
    return _json_buffers(document)


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A frame whose checksum is right."""

    kind: int
    """``KIND_LANE`` or ``KIND_COMMIT``."""

    epoch: int
    """Random number of the writer: equal in all frames of a lane."""

    number: int
    """Place in the log, from 0."""

    offset: int
    """First byte in the log."""

    end: int
    """First byte after it."""

    payload: NDArray[np.uint8]
    """Its payload."""


def read_frame(files: FileSystem, descriptor: int, offset: int, stop: int) -> Frame | None:
    """Return the frame at ``offset``; None where no complete frame with a right checksum stands."""
    if stop - offset < HEAD.size:
        return None
    try:
        head = read_range(files, descriptor, offset, HEAD.size)
        magic, version, kind, epoch, number, length, wanted = HEAD.unpack(head.tobytes())
        end = offset + HEAD.size + length
        if magic != MAGIC or version != SCHEMA_VERSION or end > stop:
            return None
        payload = read_range(files, descriptor, offset + HEAD.size, length)
    except CorruptData:  # shorter since: a writer that closes cuts off the space it had reserved
        return None
    if crc32c(payload, crc32c(head[:-4])) != wanted:
        return None
    return Frame(kind=kind, epoch=epoch, number=number, offset=offset, end=end, payload=payload)


def read_frames(
    files: FileSystem, descriptor: int, *, start: int = 0, first: int = 0, epoch: int | None = None
) -> Iterator[Frame]:
    """Yield the frames of a log in order, up to the first that is torn or out of order.

    Args:
        files: the file system that the log is on.
        descriptor: the open log.
        start: byte to start from, where frame ``first`` stands.
        first: number of the first frame.
        epoch: that all frames must have; None takes it from the first.
    """
    stop = files.size(descriptor)
    number = first
    while (frame := read_frame(files, descriptor, start, stop)) is not None:
        epoch = frame.epoch if epoch is None else epoch
        wanted_kind = KIND_LANE if number == 0 else KIND_COMMIT
        if frame.number != number or frame.epoch != epoch or frame.kind != wanted_kind:
            return
        yield frame
        number += 1
        start = frame.end


def find_frame_after(
    files: FileSystem, descriptor: int, *, start: int, number: int, epoch: int
) -> Frame | None:
    """Look behind a broken frame for a sound one of the same writer.

    A frame is written only after the one before it was synced. So a sound frame behind a broken one
    shows that the broken one was acknowledged, and that its bytes decayed since.
    """
    stop = files.size(descriptor)
    block = 1 << 20
    position = start
    while position < stop:
        length = min(block + len(MAGIC), stop - position)
        found = read_range(files, descriptor, position, length).tobytes()
        at = found.find(MAGIC)
        while 0 <= at < block:
            frame = read_frame(files, descriptor, position + at, stop)
            if frame is not None and frame.epoch == epoch and frame.number >= number:
                return frame
            at = found.find(MAGIC, at + 1)
        position += block
    return None
