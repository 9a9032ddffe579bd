"""A batch on its way to ingest: handed over as it is in one process, in parts of bytes over a wire.

The sender keeps it until it is durable, so that it can be sent again after a lost connection.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import xxhash

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.wire.framing import Framed, pieces_between
from isogloss.store import RowBatch


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A batch that is not durable yet."""

    batch: RowBatch
    """The batch; its arrays must not change."""
    size: int
    """Bytes that ingest sets aside for it."""
    pieces: tuple[memoryview, ...] = ()
    """Its encoding, whose arrays are views of the batch; empty where it is not encoded."""


def as_it_is(batch: RowBatch) -> Outgoing:
    """Return a batch for ingest in the same process: nothing is copied or encoded."""
    columns = batch.columns
    arrays = [*batch.sites.values(), columns.token_id, columns.document, columns.position]
    if columns.span is not None:
        arrays.append(columns.span)
    texts = sum(len(d.text.encode()) for d in batch.documents if d.text is not None)
    return Outgoing(batch, sum(array.nbytes for array in arrays) + texts)


def encoded(batch: RowBatch) -> Outgoing:
    """Return a batch for another process; its arrays are not copied."""
    pieces = tuple(memoryview(piece).cast("B") for piece in batch.encode() if len(piece))
    return Outgoing(batch, sum(piece.nbytes for piece in pieces), pieces)


def parts_of(outgoing: Outgoing, part_bytes: int) -> Iterator[Framed[pb.AppendRequest]]:
    """Yield an encoded batch as messages, each with its checksum.

    Args:
        outgoing: an encoded batch.
        part_bytes: payload of each message but the last, which may be shorter.

    Yields:
        The messages, in order.
    """
    starts = range(0, outgoing.size, part_bytes)
    for number, start in enumerate(starts):
        stop = min(start + part_bytes, outgoing.size)
        pieces = pieces_between(outgoing.pieces, start, stop)
        checksum = xxhash.xxh3_64()
        for piece in pieces:
            checksum.update(piece)
        yield Framed(
            head=pb.AppendRequest(
                sequence=outgoing.batch.sequence,
                part=number,
                parts=len(starts),
                batch_bytes=outgoing.size,
                xxh3=checksum.intdigest(),
            ),
            payload=pieces,
        )
