"""The calls that need torch or faiss: a server answers them in a process of their own."""

import numpy as np
from numpy.typing import NDArray

from isogloss.dictionaries import wiring_names
from isogloss.errors import InvalidInput, ShapeError
from isogloss.proto.v1 import dictionaries_pb2
from isogloss.proto.v1 import types_pb2 as types
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.proto.v1.types_pb2 import Revision, Tensor
from isogloss.service.query.kinds import check_training, list_kinds
from isogloss.service.query.queries import Queries
from isogloss.service.query.unseen import SiteRows, UnseenQueries
from isogloss.service.values.results import Hits
from isogloss.service.wire.messages import to_message
from isogloss.service.wire.names import from_feature_name, from_name, to_name
from isogloss.service.wire.pages import offset_page
from isogloss.service.wire.scalars import from_dtype, to_dtype
from isogloss.service.wire.training import asked_config, asked_processes, asked_sources
from isogloss.store import SiteSpec

_SEGMENTS = 1 << 16
"""Segments of one answer at most: 25 bytes each."""


class QueryHandlers:
    """Answers questions about features and codes, from files that are only read."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._unseen = UnseenQueries(queries)

    def check_train_dictionary(
        self, request: dictionaries_pb2.TrainDictionaryRequest
    ) -> dictionaries_pb2.TrainDictionaryRequest:
        """Raise an error for sites that do not exist, settings that the kind refuses, few rows."""
        configs = [
            asked_config(one) for one in (request.config, *(b.config for b in request.beside))
        ]
        check_training(
            self._queries.store, asked_sources(request), configs, asked_processes(request)
        )
        return request

    def list_kinds(
        self, request: dictionaries_pb2.ListKindsRequest
    ) -> dictionaries_pb2.ListKindsResponse:
        """Return the kinds and wirings that can be trained here."""
        del request
        return dictionaries_pb2.ListKindsResponse(
            kinds=[to_message(kind, dictionaries_pb2.Kind) for kind in list_kinds()],
            wirings=wiring_names(),
        )

    def get_feature(self, request: pb.GetFeatureRequest) -> pb.Feature:
        """Return how often, how strongly and where a feature fires on a probe."""
        feature = from_feature_name(request.name)
        found = self._queries.feature(
            feature.dictionary,
            feature.feature,
            from_name("probes", request.probe) if request.probe else None,
            contexts=request.contexts or 8,
        )
        return to_message(found, pb.Feature)

    def read_segments(self, request: pb.ReadSegmentsRequest) -> pb.ReadSegmentsResponse:
        """Return some of the segments of a probe, and the rows that stand for them."""
        probe, rows, revision = self._queries.segments(
            from_name("probes", request.name),
            from_name("recordings", request.recording) if request.recording else None,
            request.step if request.HasField("step") else None,
        )
        if not 0 <= request.start <= probe.segments or request.count < 0:
            raise InvalidInput(
                f"segments from {request.start} on, {request.count} of them, do not lie in the "
                f"probe's [0, {probe.segments}): ask for some of these"
            )
        count = min(request.count or _SEGMENTS, _SEGMENTS)
        part = slice(request.start, request.start + count)
        return pb.ReadSegmentsResponse(
            segments=probe.segments,
            documents=probe.documents[probe.segment_document[part]].astype("<u8").tobytes(),
            spans=probe.segment_span[part].astype("<u4").tobytes(),
            halves=probe.half[part].astype("u1").tobytes(),
            rows=b"" if rows is None else rows[part].astype("<i8").tobytes(),
            revision=None if revision is None else to_message(revision, Revision),
        )

    def nearest_features(self, request: pb.NearestFeaturesRequest) -> pb.NearestFeaturesResponse:
        """Return the features that are most like a feature, rows, a direction or codes."""
        found = self._nearest(request)
        return pb.NearestFeaturesResponse(
            hits=[to_message(hit, pb.Hit) for hit in found],
            probe=to_name("probes", found.probe) if found.probe else "",
            skipped=[to_message(one, pb.Skipped) for one in found.skipped],
        )

    def _nearest(self, request: pb.NearestFeaturesRequest) -> Hits:
        among = [from_name("dictionaries", name) for name in request.among]
        count = request.count or 5
        probe = from_name("probes", request.probe) if request.probe else None
        given = (bool(request.feature), bool(request.rows))
        given += (request.HasField("direction"), request.HasField("codes"))
        if sum(given) != 1:
            raise InvalidInput(
                f"{sum(given)} of feature, rows, direction and codes are given, wanted one"
            )
        if request.feature:
            feature = from_feature_name(request.feature)
            return self._queries.nearest(feature.dictionary, feature.feature, among, count, probe)
        if request.rows:
            rows = [_site_rows(one.recording, one.site, one.rows) for one in request.rows]
            return self._unseen.firing(rows, among, count)
        if request.HasField("direction"):
            one = request.direction
            return self._unseen.writing(
                _site_rows(one.recording, one.site, one.vector), among, count
            )
        if probe is None:
            raise InvalidInput("codes are of a probe's segments, and no probe is named")
        return self._unseen.firing_like(_array(request.codes, "codes")[0], probe, among, count)

    def list_pairs(self, request: pb.ListPairsRequest) -> pb.ListPairsResponse:
        """Return a page of the pairs of a match, highest r first."""
        match = from_name("matches", request.parent)
        min_r = request.min_r if request.HasField("min_r") else -1.0
        queries = self._queries
        start, count, token = offset_page(
            queries.pair_count(match, min_r=min_r), request.page_size, request.page_token
        )
        pairs = queries.pairs(match, min_r=min_r, start=start, count=count)
        return pb.ListPairsResponse(
            pairs=[to_message(pair, pb.Pair) for pair in pairs], next_page_token=token
        )

    def encode(self, request: dictionaries_pb2.EncodeRequest) -> dictionaries_pb2.EncodeResponse:
        """Return the sparse feature activations of rows."""
        values, indices = self._queries.encode(
            from_name("dictionaries", request.name),
            _array(request.rows, "rows"),
            from_name("recordings", request.recording) if request.recording else None,
            request.site or None,
            tuple(request.allow),
        )
        return dictionaries_pb2.EncodeResponse(
            rows=values.shape[0],
            k=values.shape[1],
            values=values.astype("<f4", copy=False).tobytes(),
            indices=indices.astype("<i4", copy=False).tobytes(),
        )

    def decode(self, request: dictionaries_pb2.DecodeRequest) -> dictionaries_pb2.DecodeResponse:
        """Return the rows that codes stand for."""
        shape, found = (request.rows, request.k), (len(request.values), len(request.indices))
        wanted = request.rows * request.k * 4
        if min(shape) < 1 or found != (wanted, wanted):
            raise ShapeError(
                f"codes [{request.rows}, {request.k}] have {found[0]} bytes of values and "
                f"{found[1]} of indices, wanted {max(wanted, 0)} of each"
            )
        rows = self._queries.decode(
            from_name("dictionaries", request.name),
            np.frombuffer(request.values, "<f4").reshape(shape),
            np.frombuffer(request.indices, "<i4").reshape(shape),
        )
        tensor = Tensor(
            dtype=to_dtype("float32"),
            rows=rows.shape[0],
            width=rows.shape[1],
            data=rows.astype("<f4", copy=False).tobytes(),
        )
        return dictionaries_pb2.DecodeResponse(rows=tensor)


def _site_rows(recording: str, site: str, rows: types.Tensor) -> SiteRows:
    return SiteRows(
        recording=from_name("recordings", recording), site=site, rows=_array(rows, "rows")
    )


def _array(tensor: types.Tensor, what: str) -> NDArray[np.float32]:
    """Return a message's ``[rows, width]`` as float32; ShapeError where its bytes are not that."""
    rows, width = tensor.rows, tensor.width
    dtype = SiteSpec(name="-", width=width, dtype=from_dtype(tensor.dtype)).numpy_dtype
    found, wanted = len(tensor.data), rows * width * dtype.itemsize
    if rows < 1 or width < 1 or found != wanted:
        raise ShapeError(
            f"{what} [{rows}, {width}] of {dtype} have {found} bytes, wanted {max(wanted, 0)}"
        )
    return np.frombuffer(tensor.data, dtype).reshape(rows, width).astype(np.float32)
