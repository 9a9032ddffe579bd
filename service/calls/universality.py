"""UniversalityService: messages in, engine, messages out."""

from google.longrunning import operations_pb2 as operations

from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.calls.table import Unary, unary
from isogloss.service.control.deleting import delete_match, delete_probe
from isogloss.service.control.entries import probe_info
from isogloss.service.control.owner import Owner
from isogloss.service.values.job_specs import MatchSpec, ProbeSpec, grid_name
from isogloss.service.wire import methods
from isogloss.service.wire.features import (
    from_feature_name,
    to_feature,
    to_hit,
    to_job,
    to_match,
    to_operation,
    to_pair,
    to_probe,
)
from isogloss.service.wire.recordings import from_name, offset_page, page_of
from isogloss.service.wire.settings import set_fields


class UniversalityHandlers:
    """Answers every call of UniversalityService."""

    def __init__(self, engine: Owner) -> None:
        self._engine = engine

    def unary(self) -> list[Unary]:
        """Return the calls with one answer."""
        return [
            unary(methods.CREATE_PROBE, self._create_probe),
            unary(methods.GET_PROBE, self._get_probe),
            unary(methods.LIST_PROBES, self._list_probes),
            unary(methods.GET_FEATURE, self._get_feature),
            unary(methods.NEAREST_FEATURES, self._nearest),
            unary(methods.CREATE_MATCH, self._create_match),
            unary(methods.GET_MATCH, self._get_match),
            unary(methods.LIST_MATCHES, self._list_matches),
            unary(methods.LIST_PAIRS, self._list_pairs),
            unary(methods.DELETE_PROBE, self._delete_probe),
            unary(methods.DELETE_MATCH, self._delete_match),
        ]

    def _create_probe(self, request: pb.CreateProbeRequest) -> operations.Operation:
        store = self._engine.store
        store.check_artifacts()
        recordings = [from_name("recordings", name) for name in request.recordings]
        dictionaries = [from_name("dictionaries", name) for name in request.dictionaries]
        for recording in recordings:
            store.recording(recording)
        for dictionary in dictionaries:
            store.catalog.get("dictionary", dictionary)
        spec = ProbeSpec(
            probe=from_name("probes", f"probes/{request.probe_id}"),
            recordings=tuple(recordings),
            dictionaries=tuple(dictionaries),
            holdout=request.holdout if request.HasField("holdout") else None,
            grid=grid_name(request.grid),
        )
        return to_operation(to_job(self._engine.jobs.submit(spec, request_id=request.request_id)))

    def _get_probe(self, request: pb.GetProbeRequest) -> pb.Probe:
        catalog = self._engine.store.catalog
        return to_probe(probe_info(catalog.get("probe", from_name("probes", request.name))))

    def _list_probes(self, request: pb.ListProbesRequest) -> pb.ListProbesResponse:
        found = self._engine.store.catalog.list("probe")
        page, token = page_of(found, lambda e: e.id, request.page_size, request.page_token)
        return pb.ListProbesResponse(
            probes=[to_probe(probe_info(entry)) for entry in page], next_page_token=token
        )

    def _get_feature(self, request: pb.GetFeatureRequest) -> pb.Feature:
        feature = from_feature_name(request.name)
        found = self._engine.queries.feature(
            feature.dictionary,
            feature.feature,
            from_name("probes", request.probe) if request.probe else None,
            contexts=request.contexts or 8,
        )
        return to_feature(found)

    def _nearest(self, request: pb.NearestFeaturesRequest) -> pb.NearestFeaturesResponse:
        feature = from_feature_name(request.feature)
        hits = self._engine.queries.nearest(
            feature.dictionary,
            feature.feature,
            [from_name("dictionaries", name) for name in request.among],
            request.count or 5,
            from_name("probes", request.probe) if request.probe else None,
        )
        return pb.NearestFeaturesResponse(hits=[to_hit(hit) for hit in hits])

    def _create_match(self, request: pb.CreateMatchRequest) -> operations.Operation:
        # scipy comes with it, which the server need not wait for at its start
        from isogloss.universality import MatchSettings

        self._engine.store.check_artifacts()
        catalog = self._engine.store.catalog
        probe = from_name("probes", request.probe) if request.probe else None
        spec = MatchSpec(
            match=from_name("matches", f"matches/{request.match_id}"),
            a=catalog.get("dictionary", from_name("dictionaries", request.a)).id,
            b=catalog.get("dictionary", from_name("dictionaries", request.b)).id,
            probe=None if probe is None else catalog.get("probe", probe).id,
            settings=MatchSettings.from_dict(set_fields(request.settings)).to_dict(),
        )
        return to_operation(to_job(self._engine.jobs.submit(spec, request_id=request.request_id)))

    def _get_match(self, request: pb.GetMatchRequest) -> pb.Match:
        return to_match(self._engine.queries.match(from_name("matches", request.name)))

    def _list_matches(self, request: pb.ListMatchesRequest) -> pb.ListMatchesResponse:
        found = self._engine.queries.matches()
        page, token = page_of(found, lambda m: m.id, request.page_size, request.page_token)
        return pb.ListMatchesResponse(
            matches=[to_match(match) for match in page], next_page_token=token
        )

    def _list_pairs(self, request: pb.ListPairsRequest) -> pb.ListPairsResponse:
        match = from_name("matches", request.parent)
        min_r = request.min_r if request.HasField("min_r") else -1.0
        queries = self._engine.queries
        start, count, token = offset_page(
            queries.pair_count(match, min_r=min_r), request.page_size, request.page_token
        )
        pairs = queries.pairs(match, min_r=min_r, start=start, count=count)
        return pb.ListPairsResponse(pairs=[to_pair(p) for p in pairs], next_page_token=token)

    def _delete_probe(self, request: pb.DeleteProbeRequest) -> pb.DeleteProbeResponse:
        deleted = delete_probe(
            self._engine.store,
            self._engine.jobs,
            from_name("probes", request.name),
            request.etag,
            cascade=request.cascade,
        )
        return pb.DeleteProbeResponse(deleted=deleted)

    def _delete_match(self, request: pb.DeleteMatchRequest) -> pb.DeleteMatchResponse:
        delete_match(self._engine.store, from_name("matches", request.name), request.etag)
        return pb.DeleteMatchResponse()
