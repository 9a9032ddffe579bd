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
from isogloss.service.wire.recordings import from_recording, from_step_runs, optional_revision
from isogloss.service.wire.scalars import from_dtype
from isogloss.store import (
    Document,
    RecordingSpec,
    Revision,
    SiteSpec,
    SiteStatistics,
    StepInfo,
    TokenColumns,
    check_step,
)


def create_recording(spec: RecordingSpec, vocabulary: Sequence[str]) -> Call[RecordingInfo]:
    """Create a recording. Where an equal one exists already, return that one.

    Args:
        spec: id, model, tokenizer, corpus and sites of the recording.
        vocabulary: the tokenizer's token strings; token id i is the i-th.

    Returns:
        The recording with its id, and what it holds already.

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
    """Return what describes a recording, and what it holds now.

    Args:
        recording: id of the recording.

    Returns:
        Its description, and its newest revision: how many rows of each lane are committed.

    Raises:
        NotFound: there is no recording with that id.
    """
    request = pb.GetRecordingRequest(name=to_name("recordings", recording))
    return then(ask(request, pb.Recording), from_recording)


def recordings() -> Call[list[RecordingInfo]]:
    """Return all recordings of the store, sorted by id."""
    return collect(
        lambda token: pb.ListRecordingsRequest(page_size=MAX_PAGE, page_token=token),
        pb.ListRecordingsResponse,
        lambda page: (map(from_recording, page.recordings), page.next_page_token),
    )


def delete_recording(recording: str, etag: str) -> Call[None]:
    """Delete a recording and its rows.

    Args:
        recording: id of the recording.
        etag: ``etag`` of the recording as :meth:`Client.recording` returned it; so that nothing is
            deleted that changed since.

    Returns:
        None, when the recording is deleted.

    Raises:
        NotFound: there is no recording with that id.
        Conflict: the recording changed since ``etag`` was read, or a job or an upkeep call uses it.
    """
    request = pb.DeleteRecordingRequest(name=to_name("recordings", recording), etag=etag)
    return then(ask(request, pb.DeleteRecordingResponse), lambda _: None)


def vocabulary(recording: str) -> Call[tuple[str, ...]]:
    """Return the token strings of a recording's tokenizer.

    Args:
        recording: id of the recording.

    Returns:
        The strings; token id i is the i-th.

    Raises:
        NotFound: there is no recording with that id.
    """
    request = pb.GetVocabularyRequest(name=to_name("recordings", recording))
    return then(ask(request, pb.GetVocabularyResponse), lambda found: tuple(found.tokens))


def statistics(recording: str, site: str, revision: Revision | None = None) -> Call[SiteStatistics]:
    """Return count, mean and spread of a site's rows.

    Args:
        recording: id of the recording.
        site: name of the site.
        revision: count the rows of this revision, from :class:`RecordingInfo`; None: of the newest.

    Returns:
        The statistics, and the revision whose rows they count.

    Raises:
        NotFound: there is no recording with that id.
        UnknownSite: the recording has no such site; the message lists the nearest names.
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
    """Return the activations of rows ``[start, stop)`` at one site.

    Args:
        recording: id of the recording.
        site: name of the site.
        start: number of the first row.
        stop: number of the row after the last; None: to the end.
        revision: read rows of this revision, from :class:`RecordingInfo`; None: of the newest.

    Returns:
        ``[rows, width]`` in the site's dtype; bfloat16 is that of :mod:`ml_dtypes`.

    Raises:
        NotFound: there is no recording with that id.
        UnknownSite: the recording has no such site; the message lists the nearest names.
        InvalidInput: rows ``[start, stop)`` are not all in the revision.
    """
    request = pb.ReadRequest(
        name=to_name("recordings", recording),
        site=site,
        start=start,
        stop=stop,
        revision=optional_revision(revision),
    )
    blocks: list[Framed[pb.ReadResponse]] = []
    return then(
        receive(request, pb.ReadResponse, blocks.append), lambda _: _rows(blocks, start, stop)
    )


def tokens(
    recording: str, start: int = 0, stop: int | None = None, *, revision: Revision | None = None
) -> Call[TokenColumns]:
    """Return token, document, position and training step of rows ``[start, stop)``.

    Args:
        recording: id of the recording.
        start: number of the first row.
        stop: number of the row after the last; None: to the end.
        revision: read rows of this revision, from :class:`RecordingInfo`; None: of the newest.

    Returns:
        One array per column. Where the recording has it, ``span`` holds the code points ``[start,
        end)`` of the document's text that each token covers.

    Raises:
        NotFound: there is no recording with that id.
        InvalidInput: rows ``[start, stop)`` are not all in the revision.
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
        lambda _: _columns([block.head for block in blocks], start, stop),
    )


def documents(
    recording: str,
    *,
    with_text: bool = True,
    revision: Revision | None = None,
    step: int | None = None,
) -> Call[dict[int, Document]]:
    """Return the documents that the rows of a recording are of.

    Args:
        recording: id of the recording.
        with_text: whether to return the documents' texts too.
        revision: only documents of which this revision has rows; None: the newest revision.
        step: only documents that were recorded at this training step; None: at any.

    Returns:
        The documents, by :attr:`Document.id`.

    Raises:
        NotFound: there is no recording with that id.
        InvalidInput: ``step`` is no training step.
    """
    if step is None:
        return _described(recording, with_text, revision)
    return _described_at(recording, with_text, revision, step)


def _described_at(
    recording: str, with_text: bool, revision: Revision | None, step: int
) -> Call[dict[int, Document]]:
    """Return the documents that are known at a step.

    The step is not a field of ``ReadDocuments``, since a server that did not know the field would
    return all documents.
    """
    known = yield from known_documents(recording, step, revision=revision)
    found = yield from _described(recording, with_text, revision)
    return {key: document for key, document in found.items() if key in known}


def _described(
    recording: str, with_text: bool, revision: Revision | None
) -> Call[dict[int, Document]]:
    """Return all documents that a recording describes."""
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


def known_documents(
    recording: str, step: int = 0, *, revision: Revision | None = None
) -> Call[dict[int, int]]:
    """Return the documents that were recorded at a training step, with the number of their rows.

    A document is known per step: a second epoch, on other weights, makes new rows of it. Who
    records asks once, at the start, and then leaves out what is known. Rows that were retired to
    make room count.

    Args:
        recording: id of the recording.
        step: the training step; 0 outside training.
        revision: count the rows of this revision, from :class:`RecordingInfo`; None: of the newest.

    Returns:
        How many rows of each document are durable, by :attr:`Document.id`. 0 for a document whose
        rows an earlier release retired, which did not keep their number.

    Raises:
        NotFound: there is no recording with that id.
        InvalidInput: ``step`` is no training step.
    """
    request = pb.ReadKnownDocumentsRequest(
        name=to_name("recordings", recording),
        step=check_step(step),
        revision=optional_revision(revision),
    )
    found: dict[int, int] = {}

    def take(block: Framed[pb.ReadKnownDocumentsResponse]) -> None:
        if len(block.head.documents) != len(block.head.rows):
            raise InternalError(
                f"{len(block.head.rows)} counts came for {len(block.head.documents)} documents"
            )
        found.update(zip(block.head.documents, block.head.rows, strict=True))

    return then(receive(request, pb.ReadKnownDocumentsResponse, take), lambda _: found)


def steps(recording: str, *, revision: Revision | None = None) -> Call[tuple[StepInfo, ...]]:
    """Return the training steps of which a recording has rows.

    Args:
        recording: id of the recording.
        revision: count the rows of this revision, from :class:`RecordingInfo`; None: of the newest.

    Returns:
        Each step with the number of its rows and documents, ascending; 0 is outside training.

    Raises:
        NotFound: there is no recording with that id.
    """
    request = pb.ReadStepsRequest(
        name=to_name("recordings", recording), revision=optional_revision(revision)
    )
    found: list[StepInfo] = []

    def take(block: Framed[pb.ReadStepsResponse]) -> None:
        found.extend(from_message(step, StepInfo) for step in block.head.steps)

    return then(receive(request, pb.ReadStepsResponse, take), lambda _: tuple(found))


def _rows(
    blocks: Sequence[Framed[pb.ReadResponse]], start: int, stop: int | None
) -> NDArray[np.generic]:
    """Join the blocks of rows of an answer into one array.

    Args:
        blocks: the answer's messages, in row order.
        start: number of the first row that was asked for.
        stop: number of the row after the last; None: to the end.

    Returns:
        ``[rows, width]`` in the site's dtype.

    Raises:
        InternalError: there is no block, a block holds another number of bytes than it says, or
            there are other rows than were asked for.
    """
    if not blocks:
        raise InternalError("the answer to a read held no block, not even an empty one")
    rows = np.concatenate([_block(block) for block in blocks])
    _check_count(len(rows), start, stop)
    return rows


def _check_count(rows: int, start: int, stop: int | None) -> None:
    """Raise InternalError where a server sent another number of rows than it was asked for."""
    if stop is not None and rows != stop - start:
        raise InternalError(f"{rows} rows came, wanted {stop - start}")


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


def _columns(blocks: Iterable[pb.ReadTokensResponse], start: int, stop: int | None) -> TokenColumns:
    """Join the blocks of token columns of an answer into one array per column."""
    found = list(blocks)
    columns = [
        TokenColumns(
            token_id=np.frombuffer(block.token_id, "<u4"),
            document=np.frombuffer(block.document, "<u8"),
            position=np.frombuffer(block.position, "<u4"),
            span=np.frombuffer(block.span, "<u4").reshape(-1, 2) if block.has_spans else None,
            step=from_step_runs(block.steps, block.rows),
        )
        for block in found
    ]
    joined = TokenColumns.concatenate(columns, any(block.has_spans for block in found))
    _check_count(joined.rows, start, stop)
    return joined


class RecordingsClient(Connection):
    """The methods of :class:`isogloss.Client` about recordings."""

    create_recording = blocking(create_recording)
    recording = blocking(recording)
    recordings = blocking(recordings)
    delete_recording = blocking(delete_recording)
    vocabulary = blocking(vocabulary)
    statistics = blocking(statistics)
    read = blocking(read)
    tokens = blocking(tokens)
    documents = blocking(documents)
    known_documents = blocking(known_documents)
    steps = blocking(steps)


class AsyncRecordingsClient(AsyncConnection):
    """The methods of :class:`isogloss.AsyncClient` about recordings."""

    create_recording = awaiting(create_recording)
    recording = awaiting(recording)
    recordings = awaiting(recordings)
    delete_recording = awaiting(delete_recording)
    vocabulary = awaiting(vocabulary)
    statistics = awaiting(statistics)
    read = awaiting(read)
    tokens = awaiting(tokens)
    documents = awaiting(documents)
    known_documents = awaiting(known_documents)
    steps = awaiting(steps)
