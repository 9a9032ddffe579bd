"""UniversalityService: messages in, the owner of the store, messages out."""

from collections.abc import Iterable

from google.longrunning import operations_pb2 as operations

from isogloss import universality  # names are looked up when used: MatchSettings loads scipy
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.calls.caller import calling_client
from isogloss.service.control.deleting import delete_match, delete_probe
from isogloss.service.control.entries import probe_info
from isogloss.service.control.needs import import_bytes, match_bytes, probe_bytes, rotate_bytes
from isogloss.service.control.owner import Owner
from isogloss.service.control.uploads import keep_part, upload_directory
from isogloss.service.jobs.limits import JobNeeds
from isogloss.service.values.job_specs import (
    ImportSpec,
    MatchSpec,
    ProbeSpec,
    RotateSpec,
    grid_name,
)
from isogloss.service.values.json_fields import sorted_steps
from isogloss.service.wire.features import from_part
from isogloss.service.wire.jobs import to_job, to_operation
from isogloss.service.wire.messages import to_message
from isogloss.service.wire.names import from_name
from isogloss.service.wire.pages import page_of
from isogloss.service.wire.settings import set_fields


class UniversalityHandlers:
    """Answers the calls of UniversalityService that need neither torch nor faiss."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def create_probe(self, request: pb.CreateProbeRequest) -> operations.Operation:
        """Queue the building of a probe."""
        store = self._owner.store
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
            steps=sorted_steps(request.steps),
        )
        needs = JobNeeds(
            client=calling_client(),
            memory_bytes=probe_bytes(store, spec),
            time_s=request.time_limit_s if request.HasField("time_limit_s") else None,
        )
        made = self._owner.jobs.submit(spec, request_id=request.request_id, needs=needs)
        return to_operation(to_job(made))

    def get_probe(self, request: pb.GetProbeRequest) -> pb.Probe:
        """Return a probe."""
        catalog = self._owner.store.catalog
        return to_message(
            probe_info(catalog.get("probe", from_name("probes", request.name))), pb.Probe
        )

    def list_probes(self, request: pb.ListProbesRequest) -> pb.ListProbesResponse:
        """Return a page of all probes, by id."""
        found = self._owner.store.catalog.list("probe")
        page, token = page_of(
            found,
            lambda entry: entry.id,
            request.page_size,
            request.page_token,
            lambda entry: to_message(probe_info(entry), pb.Probe),
        )
        return pb.ListProbesResponse(probes=page, next_page_token=token)

    def create_match(self, request: pb.CreateMatchRequest) -> operations.Operation:
        """Queue the matching of two dictionaries."""
        self._owner.store.check_artifacts()
        catalog = self._owner.store.catalog
        probe = from_name("probes", request.probe) if request.probe else None
        spec = MatchSpec(
            match=from_name("matches", f"matches/{request.match_id}"),
            a=catalog.get("dictionary", from_name("dictionaries", request.a)).id,
            b=catalog.get("dictionary", from_name("dictionaries", request.b)).id,
            probe=None if probe is None else catalog.get("probe", probe).id,
            settings=universality.MatchSettings.from_dict(set_fields(request.settings)).to_dict(),
            steps=sorted_steps(request.steps),
            ceilings=self._references(request.ceilings),
            floors=self._references(request.floors),
        )
        needs = JobNeeds(
            client=calling_client(),
            memory_bytes=match_bytes(self._owner.store, spec),
            time_s=request.time_limit_s if request.HasField("time_limit_s") else None,
        )
        made = self._owner.jobs.submit(spec, request_id=request.request_id, needs=needs)
        return to_operation(to_job(made))

    def _references(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the ids of matches that stand beside another; NotFound where one is not there."""
        catalog = self._owner.store.catalog
        return tuple(catalog.get("match", from_name("matches", name)).id for name in names)

    def upload_codes(self, request: pb.UploadCodesRequest) -> pb.UploadCodesResponse:
        """Keep a part of codes that another tool computed."""
        store = self._owner.store
        store.check_artifacts()
        probe = probe_info(store.catalog.get("probe", from_name("probes", request.probe)))
        part = from_part(request, probe.segments)
        kept = keep_part(store, request.upload, request.first_segment, part)
        return pb.UploadCodesResponse(segments=kept)

    def import_codes(self, request: pb.ImportCodesRequest) -> operations.Operation:
        """Queue the making of a dictionary of uploaded codes."""
        store = self._owner.store
        upload_directory(store, request.upload)
        probe = store.catalog.get("probe", from_name("probes", request.probe))
        recording = from_name("recordings", request.recording) if request.recording else None
        if recording is not None:
            store.recording(recording)
        spec = ImportSpec(
            dictionary=from_name("dictionaries", f"dictionaries/{request.dictionary_id}"),
            probe=probe.id,
            upload=request.upload,
            features=request.features,
            recording=recording,
            site=request.site,
            origin=request.origin,
        )
        needs = JobNeeds(
            client=calling_client(),
            memory_bytes=import_bytes(spec),
            time_s=request.time_limit_s if request.HasField("time_limit_s") else None,
        )
        made = self._owner.jobs.submit(spec, request_id=request.request_id, needs=needs)
        return to_operation(to_job(made))

    def rotate_dictionary(self, request: pb.RotateDictionaryRequest) -> operations.Operation:
        """Queue the making of a dictionary that reads rotated rows."""
        store = self._owner.store
        store.check_artifacts()
        source = store.catalog.get("dictionary", from_name("dictionaries", request.source))
        spec = RotateSpec(
            dictionary=from_name("dictionaries", f"dictionaries/{request.dictionary_id}"),
            source=source.id,
            seed=request.seed,
        )
        needs = JobNeeds(
            client=calling_client(),
            memory_bytes=rotate_bytes(store, spec),
            time_s=request.time_limit_s if request.HasField("time_limit_s") else None,
        )
        made = self._owner.jobs.submit(spec, request_id=request.request_id, needs=needs)
        return to_operation(to_job(made))

    def get_match(self, request: pb.GetMatchRequest) -> pb.Match:
        """Return a match with its summary and details."""
        found = self._owner.queries.match(from_name("matches", request.name))
        return to_message(found, pb.Match)

    def list_matches(self, request: pb.ListMatchesRequest) -> pb.ListMatchesResponse:
        """Return a page of all matches, by id, without their details."""
        found = self._owner.queries.matches()
        page, token = page_of(
            found,
            lambda match: match.id,
            request.page_size,
            request.page_token,
            lambda match: to_message(match, pb.Match),
        )
        return pb.ListMatchesResponse(matches=page, next_page_token=token)

    def delete_probe(self, request: pb.DeleteProbeRequest) -> pb.DeleteProbeResponse:
        """Delete a probe, by wish with the matches on it."""
        deleted = delete_probe(
            self._owner.store,
            self._owner.jobs,
            from_name("probes", request.name),
            request.etag,
            cascade=request.cascade,
        )
        return pb.DeleteProbeResponse(deleted=deleted)

    def delete_match(self, request: pb.DeleteMatchRequest) -> pb.DeleteMatchResponse:
        """Delete a match."""
        delete_match(self._owner.store, from_name("matches", request.name), request.etag)
        return pb.DeleteMatchResponse()
