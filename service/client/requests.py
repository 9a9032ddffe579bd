"""What a client does, once for both clients: plans that yield calls and take their answers.

:class:`isogloss.Client` runs plans with blocking calls, :class:`isogloss.AsyncClient` with awaited
ones; a plan knows nothing of either.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from google.longrunning import operations_pb2 as operations
from google.protobuf.duration_pb2 import Duration

from isogloss.errors import (
    DeadlineExceeded,
    JobCancelled,
    JobFailed,
    NotFound,
    ServerUnavailable,
)
from isogloss.proto.v1 import dictionaries_pb2, recordings_pb2, universality_pb2
from isogloss.service.transport.patience import Patience
from isogloss.service.transport.plans import Pause, Plan, ask
from isogloss.service.values.json_fields import default_probe_id
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureInfo,
    FeatureRef,
    Hit,
    JobInfo,
    MatchInfo,
    PairInfo,
    ProbeInfo,
    RecordingInfo,
)
from isogloss.service.values.settings import Setting
from isogloss.service.wire import methods
from isogloss.service.wire.features import (
    from_dictionary,
    from_feature,
    from_hit,
    from_match,
    from_operation,
    from_pair,
    from_probe,
    to_feature_name,
)
from isogloss.service.wire.recordings import (
    from_name,
    from_recording,
    to_dtype,
    to_name,
    to_revision,
    to_spec,
)
from isogloss.service.wire.settings import fill
from isogloss.store import RecordingSpec, Revision

T = TypeVar("T")

PAGE = 1000


def request_id(given: str | None) -> str:
    """Return what makes a creating call repeatable: the given id, or a new one."""
    return given if given is not None else str(uuid.uuid4())


def ping() -> Plan[None]:
    """Make one small call."""
    yield from ask(methods.LIST_RECORDINGS, recordings_pb2.ListRecordingsRequest(page_size=1))


# Recordings.


def create_recording(spec: RecordingSpec, vocabulary: Sequence[str]) -> Plan[RecordingInfo]:
    """Create a recording, or return the equal one."""
    request = recordings_pb2.CreateRecordingRequest(
        recording_id=spec.recording,
        recording=to_spec(spec),
        vocabulary=vocabulary,
        request_id=request_id(None),
    )
    return from_recording((yield from ask(methods.CREATE_RECORDING, request)))


def recording(name: str) -> Plan[RecordingInfo]:
    """Return one recording."""
    request = recordings_pb2.GetRecordingRequest(name=to_name("recordings", name))
    return from_recording((yield from ask(methods.GET_RECORDING, request)))


def recordings() -> Plan[list[RecordingInfo]]:
    """Return all recordings."""
    found: list[RecordingInfo] = []
    token = ""
    while True:
        request = recordings_pb2.ListRecordingsRequest(page_size=PAGE, page_token=token)
        page = yield from ask(methods.LIST_RECORDINGS, request)
        found += [from_recording(message) for message in page.recordings]
        token = page.next_page_token
        if not token:
            return found


def delete_recording(name: str, etag: str) -> Plan[None]:
    """Delete a recording in the version that ``etag`` names."""
    request = recordings_pb2.DeleteRecordingRequest(name=to_name("recordings", name), etag=etag)
    yield from ask(methods.DELETE_RECORDING, request)


def vocabulary(name: str) -> Plan[tuple[str, ...]]:
    """Return the token strings of a recording by id."""
    request = recordings_pb2.GetVocabularyRequest(name=to_name("recordings", name))
    return tuple((yield from ask(methods.GET_VOCABULARY, request)).tokens)


def statistics(
    name: str, site: str, revision: Revision | None
) -> Plan[recordings_pb2.SiteStatistics]:
    """Return count, mean and spread of a site."""
    request = recordings_pb2.GetSiteStatisticsRequest(
        name=to_name("recordings", name),
        site=site,
        revision=None if revision is None else to_revision(revision),
    )
    return (yield from ask(methods.GET_SITE_STATISTICS, request))


# Jobs.


def job(name: str) -> Plan[JobInfo]:
    """Return one job."""
    request = operations.GetOperationRequest(name=to_name("operations", name))
    return from_operation((yield from ask(methods.GET_OPERATION, request)))


def jobs() -> Plan[list[JobInfo]]:
    """Return all jobs, oldest first."""
    found: list[JobInfo] = []
    token = ""
    while True:
        request = operations.ListOperationsRequest(page_size=PAGE, page_token=token)
        page = yield from ask(methods.LIST_OPERATIONS, request)
        found += [from_operation(message) for message in page.operations]
        token = page.next_page_token
        if not token:
            return found


def cancel(name: str) -> Plan[None]:
    """Ask a job to end."""
    request = operations.CancelOperationRequest(name=to_name("operations", name))
    yield from ask(methods.CANCEL_OPERATION, request)


def wait(name: str, timeout_s: float | None) -> Plan[JobInfo]:
    """Wait until a job is done, over restarts of the server.

    Raises:
        JobCancelled: it was cancelled.
        JobFailed: it failed; the message holds the reason and what the worker said.
        DeadlineExceeded: it is not done; it goes on.
        ServerUnavailable: no server came back within a minute.
    """
    end = None if timeout_s is None else time.monotonic() + timeout_s
    patience = Patience()
    while True:
        left = 10.0 if end is None else min(10.0, end - time.monotonic())
        if left <= 0:
            raise DeadlineExceeded(
                f"job {name!r} was not done after {timeout_s:g} s; it goes on: wait again, or "
                "cancel it"
            )
        request = operations.WaitOperationRequest(name=to_name("operations", name))
        request.timeout.CopyFrom(_duration(left))
        try:
            found = from_operation((yield from ask(methods.WAIT_OPERATION, request, left)))
        except ServerUnavailable as error:
            yield Pause(patience.pause_s(error))
            continue
        patience.reset()
        if found.state == "CANCELLED":
            raise JobCancelled(f"job {name!r} was cancelled; submit it again to go on")
        if found.state == "FAILED":
            reason, message = found.error or ("JOB_FAILED", "no reason is known")
            raise JobFailed(f"job {name!r} failed ({reason}): {message}")
        if found.is_done:
            return found


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration


def result(
    name: str, fetch: Callable[[str], Plan[T]], collection: str, timeout_s: float | None
) -> Plan[T]:
    """Wait for a job, then get what it made."""
    done = yield from wait(name, timeout_s)
    return (yield from fetch(from_name(collection, done.made)))


# Dictionaries.


def train(
    recording_name: str,
    *,
    site: str,
    name: str,
    config: Mapping[str, Setting],
    request: str | None = None,
) -> Plan[JobInfo]:
    """Queue the training of a dictionary."""
    message = dictionaries_pb2.TrainDictionaryRequest(
        dictionary_id=from_name("dictionaries", to_name("dictionaries", name)),
        recording=to_name("recordings", recording_name),
        site=site,
        config=fill(dictionaries_pb2.TrainConfig(), config),
        request_id=request_id(request),
    )
    return from_operation((yield from ask(methods.TRAIN_DICTIONARY, message)))


def dictionary(name: str) -> Plan[DictionaryInfo]:
    """Return one dictionary."""
    request = dictionaries_pb2.GetDictionaryRequest(name=to_name("dictionaries", name))
    return from_dictionary((yield from ask(methods.GET_DICTIONARY, request)))


def dictionaries() -> Plan[list[DictionaryInfo]]:
    """Return all dictionaries."""
    found: list[DictionaryInfo] = []
    token = ""
    while True:
        request = dictionaries_pb2.ListDictionariesRequest(page_size=PAGE, page_token=token)
        page = yield from ask(methods.LIST_DICTIONARIES, request)
        found += [from_dictionary(message) for message in page.dictionaries]
        token = page.next_page_token
        if not token:
            return found


def encode(
    name: str, dtype: str, rows: int, width: int, data: bytes
) -> Plan[dictionaries_pb2.EncodeResponse]:
    """Encode rows with a dictionary."""
    request = dictionaries_pb2.EncodeRequest(name=to_name("dictionaries", name))
    request.rows.dtype = to_dtype(dtype)
    request.rows.rows, request.rows.width, request.rows.data = rows, width, data
    return (yield from ask(methods.ENCODE, request))


# Universality.


def create_probe(
    recording_names: Sequence[str],
    *,
    dictionary_names: Sequence[str],
    name: str | None,
    holdout: float | None,
    grid: str | None,
    request: str | None = None,
) -> Plan[JobInfo]:
    """Queue the building of a probe."""
    message = universality_pb2.CreateProbeRequest(
        probe_id=name or default_probe_id(recording_names),
        recordings=[to_name("recordings", n) for n in recording_names],
        dictionaries=[to_name("dictionaries", n) for n in dictionary_names],
        grid=grid or "",
        request_id=request_id(request),
    )
    if holdout is not None:
        message.holdout = holdout
    return from_operation((yield from ask(methods.CREATE_PROBE, message)))


def probe(name: str) -> Plan[ProbeInfo]:
    """Return one probe."""
    request = universality_pb2.GetProbeRequest(name=to_name("probes", name))
    return from_probe((yield from ask(methods.GET_PROBE, request)))


def probes() -> Plan[list[ProbeInfo]]:
    """Return all probes."""
    found: list[ProbeInfo] = []
    token = ""
    while True:
        request = universality_pb2.ListProbesRequest(page_size=PAGE, page_token=token)
        page = yield from ask(methods.LIST_PROBES, request)
        found += [from_probe(message) for message in page.probes]
        token = page.next_page_token
        if not token:
            return found


def ensure_probe(names: Sequence[str]) -> Plan[str]:
    """Build the default probe of dictionaries' recordings, with these dictionaries on it."""
    found: list[DictionaryInfo] = []
    for name in sorted(set(names)):
        found.append((yield from dictionary(name)))  # noqa: PERF401 - a comprehension cannot yield
    recording_names = sorted({info.recording for info in found})
    made = yield from create_probe(
        recording_names,
        dictionary_names=[info.id for info in found],
        name=None,
        holdout=None,
        grid=None,
    )
    done = yield from wait(made.name, None)
    return from_name("probes", done.made)


def nearest(
    ref: FeatureRef, among: Sequence[str], count: int, probe_name: str | None
) -> Plan[list[Hit]]:
    """Return the features most like one; without a probe, builds the default one at first use."""
    request = universality_pb2.NearestFeaturesRequest(
        feature=to_feature_name(ref),
        among=[to_name("dictionaries", name) for name in among],
        count=count,
        probe=to_name("probes", probe_name) if probe_name else "",
    )
    try:
        answer = yield from ask(methods.NEAREST_FEATURES, request)
    except NotFound:
        if probe_name is not None:
            raise
        made = yield from ensure_probe([ref.dictionary, *among])
        request.probe = to_name("probes", made)
        answer = yield from ask(methods.NEAREST_FEATURES, request)
    return [from_hit(message) for message in answer.hits]


def feature(ref: FeatureRef, probe_name: str | None, contexts: int) -> Plan[FeatureInfo]:
    """Return what a feature does; without a probe, builds the default one at first use."""
    request = universality_pb2.GetFeatureRequest(
        name=to_feature_name(ref),
        probe=to_name("probes", probe_name) if probe_name else "",
        contexts=contexts,
    )
    try:
        return from_feature((yield from ask(methods.GET_FEATURE, request)))
    except NotFound:
        if probe_name is not None:
            raise
    made = yield from ensure_probe([ref.dictionary])
    request.probe = to_name("probes", made)
    return from_feature((yield from ask(methods.GET_FEATURE, request)))


def create_match(
    a: str,
    b: str,
    *,
    name: str,
    probe_name: str | None,
    settings: Mapping[str, Setting],
    request: str | None = None,
) -> Plan[JobInfo]:
    """Queue the matching of two dictionaries."""
    message = universality_pb2.CreateMatchRequest(
        match_id=from_name("matches", to_name("matches", name)),
        a=to_name("dictionaries", a),
        b=to_name("dictionaries", b),
        probe=to_name("probes", probe_name) if probe_name else "",
        settings=fill(universality_pb2.MatchSettings(), settings),
        request_id=request_id(request),
    )
    return from_operation((yield from ask(methods.CREATE_MATCH, message)))


def match(name: str) -> Plan[MatchInfo]:
    """Return one match."""
    request = universality_pb2.GetMatchRequest(name=to_name("matches", name))
    return from_match((yield from ask(methods.GET_MATCH, request)))


def matches() -> Plan[list[MatchInfo]]:
    """Return all matches, without their details."""
    found: list[MatchInfo] = []
    token = ""
    while True:
        request = universality_pb2.ListMatchesRequest(page_size=PAGE, page_token=token)
        page = yield from ask(methods.LIST_MATCHES, request)
        found += [from_match(message) for message in page.matches]
        token = page.next_page_token
        if not token:
            return found


def pairs(name: str, min_r: float | None) -> Plan[list[PairInfo]]:
    """Return the pairs of a match, highest r first."""
    found: list[PairInfo] = []
    token = ""
    while True:
        request = universality_pb2.ListPairsRequest(
            parent=to_name("matches", name), page_size=PAGE, page_token=token
        )
        if min_r is not None:
            request.min_r = min_r
        page = yield from ask(methods.LIST_PAIRS, request)
        found += [from_pair(message) for message in page.pairs]
        token = page.next_page_token
        if not token:
            return found
