"""One producer's stream: batches come whole, or in parts that are checked and joined."""

import time
from collections.abc import Callable
from typing import Protocol

import xxhash

from isogloss.errors import (
    InvalidInput,
    IsoglossError,
    ResourceExhausted,
    SequenceGap,
)
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.wire.framing import Framed
from isogloss.store import BatchLimits, Recording, RowBatch


class SessionHost(Protocol):
    """The methods of ingest that a session uses."""

    @property
    def limits(self) -> IngestLimits:
        """Limits of memory and sizes."""
        ...

    @property
    def part_bytes(self) -> int:
        """Payload of a part that clients are asked to send now."""
        ...

    def reserve(self, session: "Session", size: int) -> bool:
        """Reserve memory for a batch; return False where there is not enough now."""
        ...

    def reserve_part(self, session: "Session", size: int) -> bool:
        """Reserve memory for a part of a batch; return False where there is not enough now."""
        ...

    def end_batch(self, session: "Session") -> None:
        """Say that no more parts of a session's batch come; what was reserved stays so."""
        ...

    def release(self, size: int) -> None:
        """Give memory back."""
        ...

    def enqueue(self, session: "Session", batch: RowBatch, size: int) -> None:
        """Hand a whole batch on."""
        ...

    def leave(self, session: "Session") -> None:
        """Forget a session."""
        ...


_OBJECT_BYTES = 512
"""About what Python needs for a message and a view of it."""
_MOST_HELD = 1.125
"""Times its payload that a message may hold before the payload is copied out of it, since only the
payload is charged: a message may be of many more bytes than its payload, or of a few."""


class Assembly:
    """The parts of one batch as they arrive."""

    def __init__(self, head: pb.AppendRequest) -> None:
        """Hold nothing yet; ``head`` is of the first part."""
        self.sequence = head.sequence
        self.parts = head.parts
        self.size = head.batch_bytes
        self.next_part = 0
        self.filled = 0
        self._pieces: list[memoryview | bytearray] = []

    def add(self, payload: memoryview) -> None:
        """Hold the payload of the next part."""
        last = self._pieces[-1] if self._pieces else None
        if _held_by(payload) <= payload.nbytes * _MOST_HELD:
            self._pieces.append(payload)  # the message's own bytes: not copied
        elif isinstance(last, bytearray):
            last += payload
        else:
            self._pieces.append(bytearray(payload))
        self.filled += payload.nbytes
        self.next_part += 1

    def content(self) -> memoryview:
        """Return the bytes of all parts: of a single one as they came, of several joined."""
        if len(self._pieces) == 1:
            return memoryview(self._pieces[0]).toreadonly()
        return memoryview(b"".join(self._pieces))


def _held_by(payload: memoryview) -> int:
    """Bytes that a payload keeps in memory: those of its message, and of the objects around it."""
    message = payload.obj
    return _OBJECT_BYTES + (len(message) if isinstance(message, bytes) else payload.nbytes)


class Session:
    """One producer's stream into a recording. Made by :meth:`Ingest.open`."""

    def __init__(
        self,
        ingest: SessionHost,
        recording: Recording,
        producer: str,
        durable: int,
        notify: Callable[[], None],
        client: str = "",
    ) -> None:
        self.recording = recording
        self.client = client
        self.active_s = time.monotonic()
        self.producer = producer
        self.received = durable
        self.durable = durable
        self.rows = 0
        self.error: IsoglossError | None = None
        self.notify = notify
        self._ingest = ingest
        self._assembly: Assembly | None = None

    @property
    def is_settled(self) -> bool:
        """Whether everything received is durable and no batch is half there."""
        return self.durable == self.received and self._assembly is None

    @property
    def has_partial_batch(self) -> bool:
        """Whether a batch has begun and not ended."""
        return self._assembly is not None

    def acknowledgement(self) -> pb.AppendResponse:
        """Return where the stream stands."""
        limits = self._ingest.limits
        return pb.AppendResponse(
            received=self.received,
            durable=self.durable,
            rows=self.rows,
            window_bytes=limits.window_bytes,
            part_bytes=self._ingest.part_bytes,
            batch_bytes=limits.batch_bytes,
        )

    def offer(self, part: Framed[pb.AppendRequest]) -> bool:
        """Take the next part of the stream. A part is a piece of a batch, of about 1 MiB.

        Args:
            part: the bytes, with their place in the batch and their checksum.

        Returns:
            True when the part was taken. False where there is no memory for its batch now: wait for
            ``notify`` and offer it again.

        Raises:
            InvalidInput: the part is malformed, or its batch does not fit the recording.
            SequenceGap: a batch before this one is missing.
            ResourceExhausted: the batch is larger than the limit.
            Fenced: a newer session of the same producer took over.
            IsoglossError: the error that ended this session earlier.
        """
        if self.error is not None:
            raise self.error
        self.active_s = time.monotonic()
        head = part.head
        if len(part.payload) != 1:
            raise InvalidInput("a part has no payload: each part carries bytes of its batch")
        payload = part.payload[0]
        if self._assembly is None:
            if head.sequence <= self.received:
                return True  # a repeat of what is held or on disk: acknowledged, not stored again
            self._check_first(head)
        assembly = self._assembly or Assembly(head)
        self._check_part(assembly, head, payload)
        is_whole = assembly.parts == 1
        if not (
            self._ingest.reserve(self, payload.nbytes)
            if is_whole
            else self._ingest.reserve_part(self, payload.nbytes)
        ):
            return False
        self._assembly = assembly
        assembly.add(payload)
        if assembly.next_part == assembly.parts:
            self._finish(assembly)
        return True

    def offer_batch(self, batch: RowBatch, size: int) -> bool:
        """Take the next batch of the stream whole, from a sender in this process.

        Nothing is copied: its arrays must not change until it is durable. That it fits the
        recording is for the sender to check; the lane checks it once more.

        Args:
            batch: the next batch of this session's producer.
            size: how many bytes to reserve for the batch.

        Returns:
            True when the batch was taken. False where there is no memory for it now: wait for
            ``notify`` and offer it again.

        Raises:
            InvalidInput: the batch is of another producer, or comes between the parts of another
                batch.
            SequenceGap: a batch before this one is missing.
            ResourceExhausted: the batch is larger than the limit.
            Fenced: a newer session of the same producer took over.
            IsoglossError: the error that ended this session earlier.
        """
        if self.error is not None:
            raise self.error
        self.active_s = time.monotonic()
        if batch.producer != self.producer:
            raise InvalidInput(
                f"batch says it is of {batch.producer!r}, its stream is of {self.producer!r}"
            )
        if self._assembly is not None:
            raise InvalidInput(
                f"batch {batch.sequence} comes amid the parts of batch {self._assembly.sequence}: "
                "send those first"
            )
        if batch.sequence <= self.received:
            return True  # a repeat of what is held or on disk: acknowledged, not stored again
        self._check_next(batch.sequence, size)
        _check_counts(batch)
        if not self._ingest.reserve(self, size):
            return False
        self.received = batch.sequence
        self._ingest.enqueue(self, batch, size)
        return True

    def close(self) -> None:
        """End the session; what was received whole is still committed."""
        self._ingest.leave(self)
        if self._assembly is not None:
            self._ingest.end_batch(self)
            self._ingest.release(self._assembly.filled)
            self._assembly = None

    def _check_first(self, head: pb.AppendRequest) -> None:
        self._check_next(head.sequence, head.batch_bytes)
        if head.part != 0:
            raise InvalidInput(f"batch {head.sequence} begins with part {head.part}, wanted 0")
        if not 1 <= head.parts <= head.batch_bytes:
            raise InvalidInput(
                f"batch {head.sequence} of {head.batch_bytes} bytes has {head.parts} parts, "
                "wanted at least one, and at least a byte in each"
            )

    def _check_next(self, sequence: int, size: int) -> None:
        """Raise an error for a batch that is not the next one, or too large."""
        if sequence != self.received + 1:
            raise SequenceGap(
                f"producer {self.producer!r} sent batch {sequence}, wanted "
                f"{self.received + 1}: send the batches between them first"
            )
        if size > self._ingest.limits.batch_bytes:
            raise ResourceExhausted(
                f"batch {sequence} has {size} bytes, the limit is "
                f"{self._ingest.limits.batch_bytes}: send fewer rows in a batch"
            )

    def _check_part(self, assembly: Assembly, head: pb.AppendRequest, payload: memoryview) -> None:
        """Raise InvalidInput for a part that does not continue a batch."""
        found = (head.sequence, head.part, head.parts, head.batch_bytes)
        wanted = (assembly.sequence, assembly.next_part, assembly.parts, assembly.size)
        if found != wanted:
            raise InvalidInput(
                f"part (batch, part, parts, bytes) {found} does not continue the batch: "
                f"wanted {wanted}"
            )
        largest = 4 * self._ingest.limits.part_bytes
        if payload.nbytes > min(largest, assembly.size - assembly.filled):
            raise InvalidInput(
                f"part {head.part} of batch {head.sequence} has {payload.nbytes} bytes, wanted at "
                f"most {min(largest, assembly.size - assembly.filled)}"
            )
        if xxhash.xxh3_64_intdigest(payload) != head.xxh3:
            raise InvalidInput(
                f"part {head.part} of batch {head.sequence} does not match its xxh3 checksum: it "
                "changed on the way; send it again"
            )

    def _finish(self, assembly: Assembly) -> None:
        if assembly.filled != assembly.size:
            raise InvalidInput(
                f"batch {assembly.sequence} has {assembly.filled} bytes in its {assembly.parts} "
                f"parts, wanted {assembly.size}"
            )
        batch = RowBatch.decode(assembly.content(), self.recording.spec)
        if (batch.producer, batch.sequence) != (self.producer, assembly.sequence):
            raise InvalidInput(
                f"batch says it is {batch.sequence} of {batch.producer!r}, its parts say "
                f"{assembly.sequence} of {self.producer!r}"
            )
        self._assembly = None
        self.received = assembly.sequence
        self._ingest.end_batch(self)
        self._ingest.enqueue(self, batch, assembly.size)


def _check_counts(batch: RowBatch) -> None:
    """Raise an error for more rows or documents than an encoded batch may hold."""
    limits = BatchLimits()
    if batch.rows > limits.max_rows or len(batch.documents) > limits.max_documents:
        raise ResourceExhausted(
            f"batch has {batch.rows} rows and describes {len(batch.documents)} documents, the "
            f"limits are {limits.max_rows} and {limits.max_documents}: split it"
        )
