"""Streams of rows, tokens and documents: their requests, and arrays out of their answers."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InternalError, ShapeError
from isogloss.proto.v1 import dictionaries_pb2
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.recordings import from_document, from_dtype, to_name, to_revision
from isogloss.store import Document, Revision, SiteSpec, SiteStatistics, TokenColumns


def read_request(
    recording: str, site: str, start: int, stop: int | None, revision: Revision | None
) -> pb.ReadRequest:
    """Ask for rows of a site."""
    return pb.ReadRequest(
        name=to_name("recordings", recording),
        site=site,
        start=start,
        stop=stop,
        revision=None if revision is None else to_revision(revision),
    )


def tokens_request(
    recording: str, start: int, stop: int | None, revision: Revision | None
) -> pb.ReadTokensRequest:
    """Ask for token columns."""
    return pb.ReadTokensRequest(
        name=to_name("recordings", recording),
        start=start,
        stop=stop,
        revision=None if revision is None else to_revision(revision),
    )


def documents_request(
    recording: str, *, with_text: bool, revision: Revision | None
) -> pb.ReadDocumentsRequest:
    """Ask for documents."""
    return pb.ReadDocumentsRequest(
        name=to_name("recordings", recording),
        with_text=with_text,
        revision=None if revision is None else to_revision(revision),
    )


def rows_of(blocks: Sequence[Framed[pb.ReadResponse]]) -> NDArray[np.generic]:
    """Join the blocks of an answer, ``[rows, width]`` in the site's dtype.

    Raises:
        InternalError: there is no block, or one lies about its size.
    """
    if not blocks:
        raise InternalError("the answer to a read held no block, not even an empty one")
    arrays = [_rows_of(block) for block in blocks]
    return np.concatenate(arrays)


def _rows_of(block: Framed[pb.ReadResponse]) -> NDArray[np.generic]:
    head = block.head
    dtype = SiteSpec(name="-", width=head.width, dtype=from_dtype(head.dtype)).numpy_dtype
    if block.payload_bytes != head.rows * head.width * dtype.itemsize:
        raise InternalError(
            f"a block of [{head.rows}, {head.width}] {dtype} has {block.payload_bytes} bytes"
        )
    if not block.payload:
        return np.empty((head.rows, head.width), dtype)
    return np.frombuffer(block.payload[0], dtype).reshape(head.rows, head.width)


def tokens_of(blocks: Sequence[pb.ReadTokensResponse]) -> TokenColumns:
    """Join the columns of an answer."""
    has_spans = any(block.has_spans for block in blocks)
    span = [np.frombuffer(block.span, "<u4").reshape(-1, 2) for block in blocks]
    return TokenColumns(
        token_id=_join([np.frombuffer(b.token_id, "<u4") for b in blocks], np.uint32),
        document=_join([np.frombuffer(b.document, "<u8") for b in blocks], np.uint64),
        position=_join([np.frombuffer(b.position, "<u4") for b in blocks], np.uint32),
        span=np.concatenate(span) if has_spans else None,
    )


def _join(arrays: Sequence[NDArray[np.generic]], dtype: type[np.generic]) -> NDArray[np.generic]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)


def documents_of(blocks: Iterable[pb.ReadDocumentsResponse]) -> dict[int, Document]:
    """Join the documents of an answer by id."""
    found = (from_document(message) for block in blocks for message in block.documents)
    return {document.id: document for document in found}


def statistics_of(message: pb.SiteStatistics) -> SiteStatistics:
    """Read the statistics of a site."""
    return SiteStatistics(
        count=message.count,
        nonfinite=message.nonfinite,
        mean=np.array(message.mean, np.float64),
        m2=np.array(message.m2, np.float64),
        norm_mean=message.norm_mean,
        norm_max=message.norm_max,
        revision=message.revision,
    )


def rows_to_encode(rows: NDArray[np.generic]) -> tuple[str, int, int, bytes]:
    """Return dtype, rows, width and bytes of an array; ShapeError where it cannot be encoded."""
    if rows.ndim != 2 or rows.dtype.name not in ("bfloat16", "float16", "float32"):
        raise ShapeError(
            f"rows are {rows.dtype} {list(rows.shape)}, wanted bfloat16, float16 or float32 "
            "[rows, width]"
        )
    return rows.dtype.name, rows.shape[0], rows.shape[1], np.ascontiguousarray(rows).tobytes()


def codes_of(
    message: dictionaries_pb2.EncodeResponse,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Read sparse codes: values and feature indices, both ``[rows, k]``."""
    shape = (message.rows, message.k)
    return (
        np.frombuffer(message.values, "<f4").reshape(shape),
        np.frombuffer(message.indices, "<i4").reshape(shape),
    )
