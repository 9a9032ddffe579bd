"""RecordingService: messages in, engine, messages out."""

from collections.abc import Iterator

import numpy as np

from isogloss.errors import InvalidInput
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.proto.v1 import types_pb2 as types
from isogloss.service.calls.table import Streaming, Unary, streaming, unary
from isogloss.service.control.owner import Owner
from isogloss.service.wire import methods
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.recordings import (
    from_name,
    from_revision,
    from_spec,
    page_of,
    to_document,
    to_dtype,
    to_recording,
)
from isogloss.store import Recording, RecordingReader

_BLOCK_BYTES = 1 << 20
_TOKEN_ROWS = 1 << 16
_DOCUMENTS = 256


class RecordingHandlers:
    """Answers every call of RecordingService but Append, which is a protocol of its own."""

    def __init__(self, engine: Owner) -> None:
        self._engine = engine

    def unary(self) -> list[Unary]:
        """Return the calls with one answer."""
        return [
            unary(methods.CREATE_RECORDING, self._create),
            unary(methods.GET_RECORDING, self._get),
            unary(methods.LIST_RECORDINGS, self._list),
            unary(methods.DELETE_RECORDING, self._delete),
            unary(methods.GET_VOCABULARY, self._vocabulary),
            unary(methods.GET_SITE_STATISTICS, self._statistics),
        ]

    def streaming(self) -> list[Streaming]:
        """Return the calls with a stream of answers."""
        return [
            streaming(methods.READ, self._read),
            streaming(methods.READ_TOKENS, self._read_tokens),
            streaming(methods.READ_DOCUMENTS, self._read_documents),
        ]

    def _find(self, name: str) -> Recording:
        return self._engine.store.recording(from_name("recordings", name))

    def _reader(self, name: str, revision: types.Revision, *, pinned: bool) -> RecordingReader:
        return self._find(name).reader(from_revision(revision) if pinned else None)

    def _create(self, request: pb.CreateRecordingRequest) -> pb.Recording:
        spec = from_spec(request.recording, request.recording_id)
        made = self._engine.recordings.create(spec, request.vocabulary, request.request_id)
        return to_recording(made)

    def _get(self, request: pb.GetRecordingRequest) -> pb.Recording:
        return to_recording(self._engine.recordings.info(self._find(request.name)))

    def _list(self, request: pb.ListRecordingsRequest) -> pb.ListRecordingsResponse:
        found = sorted(self._engine.store.recordings(), key=lambda recording: recording.id)
        page, token = page_of(found, lambda r: r.id, request.page_size, request.page_token)
        return pb.ListRecordingsResponse(
            recordings=[to_recording(self._engine.recordings.info(r)) for r in page],
            next_page_token=token,
        )

    def _delete(self, request: pb.DeleteRecordingRequest) -> pb.DeleteRecordingResponse:
        if not request.etag:
            raise InvalidInput(
                "etag is empty: pass the etag of the recording you mean, as get or list gave it"
            )
        self._engine.recordings.delete(from_name("recordings", request.name), request.etag)
        return pb.DeleteRecordingResponse()

    def _vocabulary(self, request: pb.GetVocabularyRequest) -> pb.GetVocabularyResponse:
        return pb.GetVocabularyResponse(tokens=self._find(request.name).vocabulary())

    def _statistics(self, request: pb.GetSiteStatisticsRequest) -> pb.SiteStatistics:
        revision = from_revision(request.revision) if request.HasField("revision") else None
        found = self._find(request.name).statistics(request.site, revision)
        return pb.SiteStatistics(
            count=found.count,
            nonfinite=found.nonfinite,
            mean=found.mean,
            m2=found.m2,
            norm_mean=found.norm_mean,
            norm_max=found.norm_max,
            revision=found.revision,
        )

    def _read(self, request: pb.ReadRequest) -> Iterator[Framed[pb.ReadResponse]]:
        reader = self._reader(request.name, request.revision, pinned=request.HasField("revision"))
        site = reader.spec.sites[reader.spec.site_index(request.site)]
        stop = request.stop if request.HasField("stop") else reader.rows
        _check_range(request.start, stop, reader.rows)
        step = max(1, _BLOCK_BYTES // site.row_bytes)
        for start in range(request.start, stop, step) or (stop,):
            rows = reader.read(site.name, start, min(start + step, stop))
            flat = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
            head = pb.ReadResponse(
                start=start, rows=len(rows), width=site.width, dtype=to_dtype(site.dtype)
            )
            yield Framed(
                head=head,
                payload=(flat.data,),
            )

    def _read_tokens(
        self, request: pb.ReadTokensRequest
    ) -> Iterator[Framed[pb.ReadTokensResponse]]:
        reader = self._reader(request.name, request.revision, pinned=request.HasField("revision"))
        stop = request.stop if request.HasField("stop") else reader.rows
        _check_range(request.start, stop, reader.rows)
        for start in range(request.start, stop, _TOKEN_ROWS) or (stop,):
            columns = reader.tokens(start, min(start + _TOKEN_ROWS, stop))
            head = pb.ReadTokensResponse(
                start=start,
                rows=columns.rows,
                token_id=columns.token_id.tobytes(),
                document=columns.document.tobytes(),
                position=columns.position.tobytes(),
                span=b"" if columns.span is None else columns.span.tobytes(),
                has_spans=columns.span is not None,
            )
            yield Framed(head=head, payload=())

    def _read_documents(
        self, request: pb.ReadDocumentsRequest
    ) -> Iterator[Framed[pb.ReadDocumentsResponse]]:
        reader = self._reader(request.name, request.revision, pinned=request.HasField("revision"))
        documents = list(reader.documents().values())
        for start in range(0, len(documents), _DOCUMENTS):
            some = documents[start : start + _DOCUMENTS]
            found = [to_document(d, with_text=request.with_text) for d in some]
            yield Framed(head=pb.ReadDocumentsResponse(documents=found), payload=())


def _check_range(start: int, stop: int, rows: int) -> None:
    if not 0 <= start <= stop <= rows:
        raise InvalidInput(
            f"rows [{start}, {stop}) are not a range within the {rows} rows of the revision"
        )
