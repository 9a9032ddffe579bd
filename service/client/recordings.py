"""Recordings: making, finding and deleting them, and reading what they hold."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InternalError
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.client.binding import awaiting, blocking
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.transport.call import Call, ask, collect, receive, then
from isogloss.service.values import ids
from isogloss.service.values.results import RecordingInfo
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.messages import from_message, to_message
from isogloss.service.wire.names import to_name
from isogloss.service.wire.pages import MAX_PAGE
from isogloss.service.wire.recordings import from_recording, optional_revision
from isogloss.service.wire.scalars import from_dtype
from isogloss.store import (
    Document,
    RecordingSpec,
    Revision,
    SiteSpec,
    SiteStatistics,
    TokenColumns,
)


def create_recording(spec: RecordingSpec, vocabulary: Sequence[str]) -> Call[RecordingInfo]:
    """Create a recording, or return the equal one that exists.

    Args:
        spec: model, tokenizer, corpus and sites.
        vocabulary: the tokenizer's token strings, by id.

    Returns:
        The recording as it stands.

    Raises:
        AlreadyExists: a different recording has that id.
    """
    request = pb.CreateRecordingRequest(
        recording_id=spec.recording,
        recording=to_message(spec, pb.Recording),
        vocabulary=vocabulary,
        request_id=ids.request_id(None),
    )
    return then(ask(request, pb.Recording), from_recording)


def recording(recording: str) -> Call[RecordingInfo]:
    """Return a recording as it stands.

    Args:
        recording: its id.

    Returns:
        What describes it, and its newest revision.

    Raises:
        NotFound: there is none of that id.
    """
    request = pb.GetRecordingRequest(name=to_name("recordings", recording))
    return then(ask(request, pb.Recording), from_recording)


def recordings() -> Call[list[RecordingInfo]]:
    """Return all recordings, by id."""
    return collect(
        lambda token: pb.ListRecordingsRequest(page_size=MAX_PAGE, page_token=token),
        pb.ListRecordingsResponse,
        lambda page: (map(from_recording, page.recordings), page.next_page_token),
    )


def delete_recording(recording: str, etag: str) -> Call[None]:
    """Delete a recording and its rows.

    Args:
        recording: its id.
        etag: of the version that you mean, as :meth:`Client.recording` gave it.

    Returns:
        None, once it is gone.

    Raises:
        NotFound: there is none of that id.
        Conflict: ``etag`` is not its newest, or something works on it.
    """
    request = pb.DeleteRecordingRequest(name=to_name("recordings", recording), etag=etag)
    return then(ask(request, pb.DeleteRecordingResponse), lambda _: None)


def vocabulary(recording: str) -> Call[tuple[str, ...]]:
    """Return the token strings of a recording, by token id.

    Args:
        recording: its id.

    Returns:
        The strings; token id i is the i-th.

    Raises:
        NotFound: there is none of that id.
    """
    request = pb.GetVocabularyRequest(name=to_name("recordings", recording))
    return then(ask(request, pb.GetVocabularyResponse), lambda found: tuple(found.tokens))


def statistics(recording: str, site: str, revision: Revision | None = None) -> Call[SiteStatistics]:
    """Return count, mean and spread of a site's rows.

    Args:
        recording: id of the recording.
        site: name of the site.
        revision: which rows count; None: the newest.

    Returns:
        The statistics, and the revision that they cover.

    Raises:
        NotFound: there is no such recording.
        UnknownSite: no such site; the message lists the nearest names.
    """
    request = pb.GetSiteStatisticsRequest(
        name=to_name("recordings", recording), site=site, revision=optional_revision(revision)
    )
    return then(
        ask(request, pb.SiteStatistics), lambda message: from_message(message, SiteStatistics)
    )


def read(
    recording: str,
    site: str,
    start: int = 0,
    stop: int | None = None,
    *,
    revision: Revision | None = None,
) -> Call[NDArray[np.generic]]:
    """Return rows ``[start, stop)`` of a site, ``[rows, width]`` in its dtype.

    Args:
        recording: id of the recording.
        site: name of the site.
        start: first row.
        stop: row behind the last; None: to the end.
        revision: which rows count; None: the newest.

    Returns:
        The rows; bfloat16 is that of :mod:`ml_dtypes`.

    Raises:
        NotFound: there is no such recording.
        UnknownSite: no such site; the message lists the nearest names.
        InvalidInput: the revision has no such rows.
    """
    request = pb.ReadRequest(
        name=to_name("recordings", recording),
        site=site,
        start=start,
        stop=stop,
        revision=optional_revision(revision),
    )
    blocks: list[Framed[pb.ReadResponse]] = []
    return then(receive(request, pb.ReadResponse, blocks.append), lambda _: _rows(blocks))


def tokens(
    recording: str, start: int = 0, stop: int | None = None, *, revision: Revision | None = None
) -> Call[TokenColumns]:
    """Return what is known of rows ``[start, stop)`` beside their activations.

    Args:
        recording: id of the recording.
        start: first row.
        stop: row behind the last; None: to the end.
        revision: which rows count; None: the newest.

    Returns:
        Token, document, position and, where the recording has them, code points of each row.

    Raises:
        NotFound: there is no such recording.
        InvalidInput: the revision has no such rows.
    """
    request = pb.ReadTokensRequest(
        name=to_name("recordings", recording),
        start=start,
        stop=stop,
        revision=optional_revision(revision),
    )
    blocks: list[Framed[pb.ReadTokensResponse]] = []
    return then(
        receive(request, pb.ReadTokensResponse, blocks.append),
        lambda _: _columns([block.head for block in blocks]),
    )


def documents(
    recording: str, *, with_text: bool = True, revision: Revision | None = None
) -> Call[dict[int, Document]]:
    """Return the documents of which rows are committed.

    Args:
        recording: id of the recording.
        with_text: False: leave out their texts.
        revision: which rows count; None: the newest.

    Returns:
        The documents, by id.

    Raises:
        NotFound: there is no such recording.
    """
    request = pb.ReadDocumentsRequest(
        name=to_name("recordings", recording),
        with_text=with_text,
        revision=optional_revision(revision),
    )
    found: dict[int, Document] = {}

    def take(block: Framed[pb.ReadDocumentsResponse]) -> None:
        for message in block.head.documents:
            document = from_message(message, Document)
            found[document.id] = document

    return then(receive(request, pb.ReadDocumentsResponse, take), lambda _: found)


def _rows(blocks: Sequence[Framed[pb.ReadResponse]]) -> NDArray[np.generic]:
    """Join the blocks of an answer, ``[rows, width]`` in the site's dtype.

    Args:
        blocks: in row order.

    Returns:
        The rows of all of them.

    Raises:
        InternalError: there is no block, or one lies about its size.
    """
    if not blocks:
        raise InternalError("the answer to a read held no block, not even an empty one")
    return np.concatenate([_block(block) for block in blocks])


def _block(block: Framed[pb.ReadResponse]) -> NDArray[np.generic]:
    head = block.head
    dtype = SiteSpec(name="-", width=head.width, dtype=from_dtype(head.dtype)).numpy_dtype
    if block.payload_bytes != head.rows * head.width * dtype.itemsize:
        raise InternalError(
            f"a block of [{head.rows}, {head.width}] {dtype} has {block.payload_bytes} bytes"
        )
    if not block.payload:
        return np.empty((head.rows, head.width), dtype)
    return np.frombuffer(block.payload[0], dtype).reshape(head.rows, head.width)


def _columns(blocks: Iterable[pb.ReadTokensResponse]) -> TokenColumns:
    """Join the columns of an answer."""
    found = list(blocks)
    has_spans = any(block.has_spans for block in found)
    span = [np.frombuffer(block.span, "<u4").reshape(-1, 2) for block in found]
    return TokenColumns(
        token_id=_join([np.frombuffer(block.token_id, "<u4") for block in found], np.uint32),
        document=_join([np.frombuffer(block.document, "<u8") for block in found], np.uint64),
        position=_join([np.frombuffer(block.position, "<u4") for block in found], np.uint32),
        span=np.concatenate(span) if has_spans else None,
    )


def _join(arrays: Sequence[NDArray[np.generic]], dtype: type[np.generic]) -> NDArray[np.generic]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)


class RecordingsClient(Connection):
    """Recordings, for :class:`isogloss.Client`."""

    create_recording = blocking(create_recording)
    recording = blocking(recording)
    recordings = blocking(recordings)
    delete_recording = blocking(delete_recording)
    vocabulary = blocking(vocabulary)
    statistics = blocking(statistics)
    read = blocking(read)
    tokens = blocking(tokens)
    documents = blocking(documents)


class AsyncRecordingsClient(AsyncConnection):
    """Recordings, for :class:`isogloss.AsyncClient`."""

    create_recording = awaiting(create_recording)
    recording = awaiting(recording)
    recordings = awaiting(recordings)
    delete_recording = awaiting(delete_recording)
    vocabulary = awaiting(vocabulary)
    statistics = awaiting(statistics)
    read = awaiting(read)
    tokens = awaiting(tokens)
    documents = awaiting(documents)
