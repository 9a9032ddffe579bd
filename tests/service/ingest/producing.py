"""Producers, and batches in the parts in which they travel."""

import threading

import xxhash

from isogloss.proto.v1.recordings_pb2 import AppendRequest
from isogloss.service.ingest.ingest import Ingest, Session
from isogloss.service.wire.framing import Framed
from isogloss.store import RecordingSpec, RowBatch
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()


class Producer:
    """A session and what it was told."""

    def __init__(self, ingest: Ingest, name: str, recording: str = "sample") -> None:
        self.told = threading.Event()
        self.session = ingest.open(recording, name, self.told.set)

    def wait(self, sequence: int) -> None:
        """Wait until a batch is durable, or the session ended."""
        while self.session.durable < sequence and self.session.error is None:
            assert self.told.wait(120)
            self.told.clear()


def encoded(batch: RowBatch) -> bytes:
    return b"".join(batch.encode())


def parts(content: bytes, sequence: int, count: int = 1) -> list[Framed[AppendRequest]]:
    step = -(-len(content) // count)
    pieces = [content[start : start + step] for start in range(0, len(content), step)]
    return [
        Framed(
            head=AppendRequest(
                sequence=sequence,
                part=number,
                parts=len(pieces),
                batch_bytes=len(content),
                xxh3=xxhash.xxh3_64_intdigest(piece),
            ),
            payload=(memoryview(piece),),
        )
        for number, piece in enumerate(pieces)
    ]


def changed(part: Framed[AppendRequest], /, **fields: int) -> Framed[AppendRequest]:
    head = AppendRequest()
    head.CopyFrom(part.head)
    for name, value in fields.items():
        setattr(head, name, value)
    return Framed(head=head, payload=part.payload)


def send(session: Session, sequence: int, count: int = 1, spec: RecordingSpec = SPEC) -> None:
    batch = sample_batch(spec, session.producer, sequence)
    for part in parts(encoded(batch), sequence, count):
        assert session.offer(part)
