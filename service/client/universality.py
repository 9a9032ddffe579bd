"""Which features dictionaries share: probes, nearest features, matches."""

from collections.abc import Mapping, Sequence

from google.longrunning.operations_pb2 import Operation

from isogloss.errors import NotFound
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.client.binding import awaiting, blocking, starting, starting_async
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.dictionaries import get_dictionary
from isogloss.service.client.operations import Started, started, wait
from isogloss.service.transport.call import Call, ask, collect, then
from isogloss.service.values import ids
from isogloss.service.values.json_fields import default_probe_id
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureInfo,
    FeatureRef,
    Hit,
    MatchInfo,
    PairInfo,
    ProbeInfo,
)
from isogloss.service.values.settings import Setting
from isogloss.service.wire.messages import from_message
from isogloss.service.wire.names import from_name, to_feature_name, to_name
from isogloss.service.wire.pages import MAX_PAGE
from isogloss.service.wire.settings import fill


def create_probe(
    recordings: Sequence[str],
    *,
    dictionaries: Sequence[DictionaryInfo | str] = (),
    probe: str | None = None,
    holdout: float | None = None,
    grid: str | None = None,
    request_id: str | None = None,
) -> Call[Started[ProbeInfo]]:
    """Pin the held-out documents that recordings share, and encode dictionaries on them.

    Args:
        recordings: ids.
        dictionaries: what to encode; a probe that exists gains those it lacks.
        probe: its id; None: the default probe of these recordings.
        holdout: share of the documents; None: what the dictionaries were not trained on.
        grid: ``tokens`` or ``word_ends``; None chooses by the tokenizers.
        request_id: a second call with it gives the first job again.

    Returns:
        The job, whose result is the probe.

    Raises:
        NotFound: no such recording or dictionary.
    """
    request = pb.CreateProbeRequest(
        probe_id=probe or default_probe_id(recordings),
        recordings=[to_name("recordings", name) for name in recordings],
        dictionaries=[to_name("dictionaries", ids.id_of(found)) for found in dictionaries],
        holdout=holdout,
        grid=grid or "",
        request_id=ids.request_id(request_id),
    )
    return then(ask(request, Operation), started("probes", get_probe))


def probe(probe: str) -> Call[ProbeInfo]:
    """Return a probe.

    Args:
        probe: its id.

    Returns:
        What it holds.

    Raises:
        NotFound: there is none of that id.
    """
    return get_probe(probe)


def get_probe(name: str) -> Call[ProbeInfo]:
    """Ask for a probe; where a parameter is called like the function above."""
    request = pb.GetProbeRequest(name=to_name("probes", name))
    return then(ask(request, pb.Probe), lambda message: from_message(message, ProbeInfo))


def probes() -> Call[list[ProbeInfo]]:
    """Return all probes, by id."""
    return collect(
        lambda token: pb.ListProbesRequest(page_size=MAX_PAGE, page_token=token),
        pb.ListProbesResponse,
        lambda page: (
            [from_message(message, ProbeInfo) for message in page.probes],
            page.next_page_token,
        ),
    )


def delete_probe(probe: str, etag: str, *, cascade: bool = False) -> Call[list[str]]:
    """Delete a probe with its codes and its atlas.

    Args:
        probe: its id.
        etag: of the version that you mean, as :meth:`Client.probe` gave it.
        cascade: also delete the matches on it.

    Returns:
        Names of the matches that were deleted with it.

    Raises:
        NotFound: there is none of that id.
        Conflict: ``etag`` is not its newest, a job uses it, or without ``cascade`` a match is on
            it.
    """
    request = pb.DeleteProbeRequest(name=to_name("probes", probe), etag=etag, cascade=cascade)
    return then(ask(request, pb.DeleteProbeResponse), lambda found: list(found.deleted))


def nearest(
    feature: FeatureRef,
    among: Sequence[DictionaryInfo | str],
    count: int = 5,
    *,
    probe: str | None = None,
) -> Call[list[Hit]]:
    """Return the features of other dictionaries that fire most like one feature.

    Args:
        feature: such as ``client.dictionary("a").feature(1207)``.
        among: the dictionaries to search.
        count: hits per dictionary, at most 100.
        probe: id of the probe; None: the newest that has all of them, else the default probe
            of their recordings, built now.

    Returns:
        The hits, highest correlation first.

    Raises:
        NotFound: no such dictionary or probe, or the probe lacks a dictionary.
        InvalidInput: no such feature, ``among`` is empty, or ``count`` is out of range.
        DeadFeature: the feature fires too rarely on the probe.
    """
    names = [ids.id_of(dictionary) for dictionary in among]
    request = pb.NearestFeaturesRequest(
        feature=to_feature_name(feature),
        among=[to_name("dictionaries", name) for name in names],
        count=count,
        probe=to_name("probes", probe) if probe else "",
    )
    return _nearest(request, [feature.dictionary, *names])


def _nearest(request: pb.NearestFeaturesRequest, dictionaries: Sequence[str]) -> Call[list[Hit]]:
    try:
        answer = yield from ask(request, pb.NearestFeaturesResponse)
    except NotFound:
        if request.probe:
            raise
        request.probe = yield from _default_probe(dictionaries)
        answer = yield from ask(request, pb.NearestFeaturesResponse)
    return [from_message(message, Hit) for message in answer.hits]


def _default_probe(dictionaries: Sequence[str]) -> Call[str]:
    """Build the default probe of dictionaries' recordings; return its resource name."""
    found: list[DictionaryInfo] = []
    for name in sorted(set(dictionaries)):
        found.append((yield from get_dictionary(name)))  # noqa: PERF401 - a comprehension cannot yield
    recordings = sorted({source.recording for info in found for source in info.sources})
    made = yield from create_probe(recordings, dictionaries=found)
    done = yield from wait(made.name, None)
    return to_name("probes", from_name("probes", done.made))


def feature(
    feature: FeatureRef, *, probe: str | None = None, contexts: int = 8
) -> Call[FeatureInfo]:
    """Return how often, how strongly and where a feature fires on a probe.

    Args:
        feature: such as ``client.dictionary("a").feature(1207)``.
        probe: id of the probe; None: the newest that has the dictionary, else the default probe
            of its recording, built now.
        contexts: how many of the places where it fires most strongly to return.

    Returns:
        The figures, and the places with the text around them.

    Raises:
        NotFound: no such dictionary or probe, or the probe lacks the dictionary.
        InvalidInput: no such feature, or ``contexts`` below 1.
    """
    request = pb.GetFeatureRequest(
        name=to_feature_name(feature),
        probe=to_name("probes", probe) if probe else "",
        contexts=contexts,
    )
    return _feature(request, feature.dictionary)


def _feature(request: pb.GetFeatureRequest, dictionary: str) -> Call[FeatureInfo]:
    try:
        answer = yield from ask(request, pb.Feature)
    except NotFound:
        if request.probe:
            raise
        request.probe = yield from _default_probe([dictionary])
        answer = yield from ask(request, pb.Feature)
    return from_message(answer, FeatureInfo)


def match(
    a: DictionaryInfo | str,
    b: DictionaryInfo | str,
    *,
    match: str | None = None,
    probe: str | None = None,
    settings: Mapping[str, Setting] | None = None,
    request_id: str | None = None,
) -> Call[Started[MatchInfo]]:
    """Match all features of two dictionaries, as a job.

    Args:
        a: first dictionary.
        b: second dictionary.
        match: id of the match; None makes one up, equal for equal settings.
        probe: id of the probe; None: as in :meth:`nearest`.
        settings: fields of :class:`isogloss.universality.MatchSettings`, by name.
        request_id: a second call with it gives the first job again.

    Returns:
        The job, whose result is the match.

    Raises:
        NotFound: no such dictionary or probe.
        InvalidInput: a setting that there is not.
    """
    names = ids.id_of(a), ids.id_of(b)
    name = match or ids.match_id(*names, probe, settings or {})
    request = pb.CreateMatchRequest(
        match_id=from_name("matches", to_name("matches", name)),
        a=to_name("dictionaries", names[0]),
        b=to_name("dictionaries", names[1]),
        probe=to_name("probes", probe) if probe else "",
        settings=fill(pb.MatchSettings(), settings or {}),
        request_id=ids.request_id(request_id),
    )
    return then(ask(request, Operation), started("matches", get_match))


def get_match(match: str) -> Call[MatchInfo]:
    """Return a match with its summary and details.

    Args:
        match: its id.

    Returns:
        The match; :attr:`~MatchInfo.details` is what a report shows.

    Raises:
        NotFound: there is none of that id.
    """
    request = pb.GetMatchRequest(name=to_name("matches", match))
    return then(ask(request, pb.Match), lambda message: from_message(message, MatchInfo))


def matches() -> Call[list[MatchInfo]]:
    """Return all matches, by id, without their details."""
    return collect(
        lambda token: pb.ListMatchesRequest(page_size=MAX_PAGE, page_token=token),
        pb.ListMatchesResponse,
        lambda page: (
            [from_message(message, MatchInfo) for message in page.matches],
            page.next_page_token,
        ),
    )


def pairs(match: MatchInfo | str, *, min_r: float | None = None) -> Call[list[PairInfo]]:
    """Return the mutual pairs of a match.

    Args:
        match: which one, or its id.
        min_r: leave out pairs below this; None: return all.

    Returns:
        The pairs, highest correlation first.

    Raises:
        NotFound: there is no such match.
    """
    parent = to_name("matches", match if isinstance(match, str) else match.id)
    return collect(
        lambda token: pb.ListPairsRequest(
            parent=parent, page_size=MAX_PAGE, page_token=token, min_r=min_r
        ),
        pb.ListPairsResponse,
        lambda page: (
            [from_message(message, PairInfo) for message in page.pairs],
            page.next_page_token,
        ),
    )


def delete_match(match: str, etag: str) -> Call[None]:
    """Delete a match.

    Args:
        match: its id.
        etag: of the version that you mean, as :meth:`Client.get_match` gave it.

    Returns:
        None, once it is gone.

    Raises:
        NotFound: there is none of that id.
        Conflict: ``etag`` is not its newest.
    """
    request = pb.DeleteMatchRequest(name=to_name("matches", match), etag=etag)
    return then(ask(request, pb.DeleteMatchResponse), lambda _: None)


class UniversalityClient(Connection):
    """Which features dictionaries share, for :class:`isogloss.Client`."""

    create_probe = starting(create_probe)
    probe = blocking(probe)
    probes = blocking(probes)
    delete_probe = blocking(delete_probe)
    nearest = blocking(nearest)
    feature = blocking(feature)
    match = starting(match)
    get_match = blocking(get_match)
    matches = blocking(matches)
    pairs = blocking(pairs)
    delete_match = blocking(delete_match)


class AsyncUniversalityClient(AsyncConnection):
    """Which features dictionaries share, for :class:`isogloss.AsyncClient`."""

    create_probe = starting_async(create_probe)
    probe = awaiting(probe)
    probes = awaiting(probes)
    delete_probe = awaiting(delete_probe)
    nearest = awaiting(nearest)
    feature = awaiting(feature)
    match = starting_async(match)
    get_match = awaiting(get_match)
    matches = awaiting(matches)
    pairs = awaiting(pairs)
    delete_match = awaiting(delete_match)
