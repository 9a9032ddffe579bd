"""RecordingService: messages in, the owner of the store, messages out."""

import contextlib
from collections.abc import Iterator

import numpy as np

from isogloss.errors import InvalidInput, NotFound
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.proto.v1 import types_pb2 as types
from isogloss.service.calls.caller import block_bytes
from isogloss.service.control.owner import Owner
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.messages import from_message, to_message
from isogloss.service.wire.names import from_name
from isogloss.service.wire.pages import by_bytes, page_of
from isogloss.service.wire.recordings import to_document, to_recording, to_step_runs
from isogloss.service.wire.scalars import to_dtype
from isogloss.store import (
    Recording,
    RecordingReader,
    RecordingSpec,
    Revision,
    SiteSpec,
    readable_text,
)

_TOKEN_ROWS = 1 << 16
_TOKEN_BYTES = 24
"""Of the columns of one row."""
_DOCUMENTS = 256
_STEPS = 1 << 14
_KNOWN_DOCUMENTS = 1 << 16
_LIST_TRIES = 16


class RecordingHandlers:
    """Answers every call of RecordingService but Append, which has its own protocol."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def _find(self, name: str) -> Recording:
        return self._owner.store.recording(from_name("recordings", name))

    def _reader(self, name: str, revision: types.Revision, *, pinned: bool) -> RecordingReader:
        return self._find(name).reader(from_message(revision, Revision) if pinned else None)

    def create_recording(self, request: pb.CreateRecordingRequest) -> pb.Recording:
        """Create a recording. Where an equal one exists already, return that one."""
        request.recording.name = f"recordings/{request.recording_id}"
        spec = from_message(request.recording, RecordingSpec)
        made = self._owner.recordings.create(spec, request.vocabulary, request.request_id)
        return to_recording(made)

    def get_recording(self, request: pb.GetRecordingRequest) -> pb.Recording:
        """Return a recording as it stands."""
        return to_recording(self._owner.recordings.info(self._find(request.name)))

    def list_recordings(self, request: pb.ListRecordingsRequest) -> pb.ListRecordingsResponse:
        """Return a page of all recordings, by id."""
        for _ in range(_LIST_TRIES):
            with contextlib.suppress(NotFound):  # one was deleted since they were listed
                return self._list_recordings(request)
        return self._list_recordings(request)

    def _list_recordings(self, request: pb.ListRecordingsRequest) -> pb.ListRecordingsResponse:
        found = sorted(self._owner.store.recordings(), key=lambda recording: recording.id)
        page, token = page_of(
            found,
            lambda recording: recording.id,
            request.page_size,
            request.page_token,
            lambda recording: to_recording(self._owner.recordings.info(recording)),
        )
        return pb.ListRecordingsResponse(recordings=page, next_page_token=token)

    def delete_recording(self, request: pb.DeleteRecordingRequest) -> pb.DeleteRecordingResponse:
        """Delete a recording in the version that the etag names."""
        if not request.etag:
            raise InvalidInput(
                "etag is empty: pass the etag of the recording you mean, as get or list gave it"
            )
        self._owner.recordings.delete(from_name("recordings", request.name), request.etag)
        return pb.DeleteRecordingResponse()

    def get_vocabulary(self, request: pb.GetVocabularyRequest) -> pb.GetVocabularyResponse:
        """Return the token strings of a recording."""
        tokens = self._find(request.name).vocabulary()
        return pb.GetVocabularyResponse(tokens=map(readable_text, tokens))

    def get_site_statistics(self, request: pb.GetSiteStatisticsRequest) -> pb.SiteStatistics:
        """Return count, mean and spread of a site's rows."""
        revision = (
            from_message(request.revision, Revision) if request.HasField("revision") else None
        )
        found = self._find(request.name).statistics(request.site, revision)
        return to_message(found, pb.SiteStatistics)

    def read(self, request: pb.ReadRequest) -> Iterator[Framed[pb.ReadResponse]]:
        """Return rows of a site in blocks of about 1 MiB, of less where many read."""
        reader = self._reader(request.name, request.revision, pinned=request.HasField("revision"))
        site = reader.spec.sites[reader.spec.site_index(request.site)]
        stop = request.stop if request.HasField("stop") else reader.rows
        _check_range(request.start, stop, reader.rows)
        start = request.start
        while True:
            end = min(start + max(1, block_bytes() // site.row_bytes), stop)
            yield _rows(reader, site, start, end)
            start = end
            if start >= stop:
                return

    def read_tokens(self, request: pb.ReadTokensRequest) -> Iterator[Framed[pb.ReadTokensResponse]]:
        """Return token columns in blocks."""
        reader = self._reader(request.name, request.revision, pinned=request.HasField("revision"))
        stop = request.stop if request.HasField("stop") else reader.rows
        _check_range(request.start, stop, reader.rows)
        start = request.start
        while True:
            rows = min(_TOKEN_ROWS, max(1, block_bytes() // _TOKEN_BYTES))
            end = min(start + rows, stop)
            yield _tokens(reader, start, end)
            start = end
            if start >= stop:
                return

    def read_documents(
        self, request: pb.ReadDocumentsRequest
    ) -> Iterator[Framed[pb.ReadDocumentsResponse]]:
        """Return documents, some in each message."""
        reader = self._reader(request.name, request.revision, pinned=request.HasField("revision"))
        documents = reader.documents().values()
        messages = (to_document(d, with_text=request.with_text) for d in documents)
        for some in by_bytes(messages, _DOCUMENTS, block_bytes()):
            yield Framed(head=pb.ReadDocumentsResponse(documents=some), payload=())

    def read_steps(self, request: pb.ReadStepsRequest) -> Iterator[Framed[pb.ReadStepsResponse]]:
        """Return training steps, some in each message."""
        reader = self._reader(request.name, request.revision, pinned=request.HasField("revision"))
        steps = [to_message(step, pb.Step) for step in reader.steps()]
        for start in range(0, len(steps), _STEPS):
            yield Framed(head=pb.ReadStepsResponse(steps=steps[start : start + _STEPS]), payload=())

    def read_known_documents(
        self, request: pb.ReadKnownDocumentsRequest
    ) -> Iterator[Framed[pb.ReadKnownDocumentsResponse]]:
        """Return ids of documents and numbers of their rows, some in each message."""
        reader = self._reader(request.name, request.revision, pinned=request.HasField("revision"))
        known = sorted(reader.known_documents(request.step).items())
        for start in range(0, len(known), _KNOWN_DOCUMENTS):
            documents, rows = zip(*known[start : start + _KNOWN_DOCUMENTS], strict=True)
            head = pb.ReadKnownDocumentsResponse(documents=documents, rows=rows)
            yield Framed(head=head, payload=())


# What is sent is made apart: a stream that waits for its reader would hold its own variables too.


def _rows(
    reader: RecordingReader, site: SiteSpec, start: int, stop: int
) -> Framed[pb.ReadResponse]:
    rows = reader.read(site.name, start, stop)
    flat = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
    head = pb.ReadResponse(
        start=start, rows=len(rows), width=site.width, dtype=to_dtype(site.dtype)
    )
    return Framed(head=head, payload=(flat.data,))


def _tokens(reader: RecordingReader, start: int, stop: int) -> Framed[pb.ReadTokensResponse]:
    columns = reader.tokens(start, stop)
    head = pb.ReadTokensResponse(
        start=start,
        rows=columns.rows,
        token_id=columns.token_id.tobytes(),
        document=columns.document.tobytes(),
        position=columns.position.tobytes(),
        span=b"" if columns.span is None else columns.span.tobytes(),
        has_spans=columns.span is not None,
        steps=to_step_runs(columns.step),
    )
    return Framed(head=head, payload=())


def _check_range(start: int, stop: int, rows: int) -> None:
    if not 0 <= start <= stop <= rows:
        raise InvalidInput(
            f"rows [{start}, {stop}) are not a range within the {rows} rows of the revision"
        )
