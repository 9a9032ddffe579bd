"""Which features dictionaries share: probes, nearest features, matches."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from google.longrunning.operations_pb2 import Operation
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, NotFound
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.client.asking.comparable import comparable
from isogloss.service.client.asking.nearest import answered, of_codes, of_direction, of_text
from isogloss.service.client.binding import awaiting, blocking, starting, starting_async
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.dictionaries import get_dictionary
from isogloss.service.client.operations import Started, started, wait
from isogloss.service.transport.call import Call, ask, collect, reading, then
from isogloss.service.values import ids
from isogloss.service.values.arguments import Setting, check_whole, named_steps
from isogloss.service.values.json_fields import default_probe_id
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureInfo,
    FeatureRef,
    Hits,
    MatchInfo,
    PairInfo,
    ProbeInfo,
    RecordingInfo,
)
from isogloss.service.wire.messages import from_message
from isogloss.service.wire.names import from_name, to_feature_name, to_name
from isogloss.service.wire.pages import MAX_PAGE
from isogloss.service.wire.settings import fill

if TYPE_CHECKING:
    from torch import Tensor

    from isogloss.models import LoadedModel

_GOES_WITH = {
    "feature": ("probe",),
    "text": ("model",),
    "direction": ("model", "site"),
    "codes": ("probe",),
}
"""Arguments of :func:`nearest` that say more of each thing to compare with."""


def create_probe(
    recordings: Sequence[str],
    *,
    dictionaries: Sequence[DictionaryInfo | str] = (),
    probe: str | None = None,
    holdout: float | None = None,
    grid: str | None = None,
    steps: Sequence[int] | None = None,
    time_limit_s: float | None = None,
    request_id: str | None = None,
) -> Call[Started[ProbeInfo]]:
    """Begin a job that makes a probe and encodes dictionaries on it.

    A probe is a fixed set of documents on which features of several dictionaries are compared:
    documents that all the recordings hold and that no dictionary was trained on.

    Args:
        recordings: ids of the recordings.
        dictionaries: the dictionaries to encode, or their ids. If the probe exists, those that it
            lacks are added to it.
        probe: id of the probe; None: an id made of those of the recordings, equal on each call.
        holdout: share of the documents to use. None: 0.25, or the smallest holdout that one of the
            dictionaries was trained with if that is less; of a probe that exists, its own.
        grid: what features are compared on: ``tokens`` (each token; the recordings need one
            tokenizer) or ``word_ends`` (each word). None: tokens where the recordings have one
            tokenizer, else words.
        steps: training steps to compare at, one of each recording that has rows of several; see
            :meth:`Client.steps`. None: each dictionary is compared at the step that it was trained
            on; of a probe that exists, its own.
        time_limit_s: for how many seconds the job may run; None: as long as the server lets it.
        request_id: any text; a second call with the same one returns the first call's job.

    Returns:
        A handle on the job; its result is the probe.

    Raises:
        NotFound: there is no such recording or dictionary.
        InvalidInput: ``recordings`` is empty.

    The job ends with InvalidInput where a dictionary was trained on several training steps of a
    recording and ``steps`` does not say at which one to compare it.
    """
    wanted = named_steps(steps)
    if not recordings:
        raise InvalidInput("0 recordings to probe: name at least one")
    names = [to_name("recordings", name) for name in recordings]
    request = pb.CreateProbeRequest(
        probe_id=probe or default_probe_id(recordings, wanted),
        recordings=names,
        dictionaries=[to_name("dictionaries", ids.id_of(found)) for found in dictionaries],
        holdout=holdout,
        grid=grid or "",
        steps=wanted,
        time_limit_s=time_limit_s,
        request_id=ids.request_id(request_id),
    )
    return then(ask(request, Operation), started("probes", get_probe))


def probe(probe: str) -> Call[ProbeInfo]:
    """Return what describes a probe.

    Args:
        probe: id of the probe.

    Returns:
        Its recordings, its documents, and the dictionaries encoded on it.

    Raises:
        NotFound: there is no probe with that id.
    """
    return get_probe(probe)


def get_probe(name: str) -> Call[ProbeInfo]:
    """Ask for a probe; for functions with a parameter named like :func:`probe`."""
    request = pb.GetProbeRequest(name=to_name("probes", name))
    return then(ask(request, pb.Probe), lambda message: from_message(message, ProbeInfo))


def probes() -> Call[list[ProbeInfo]]:
    """Return all probes of the store, sorted by id."""
    return collect(
        lambda token: pb.ListProbesRequest(page_size=MAX_PAGE, page_token=token),
        pb.ListProbesResponse,
        lambda page: (
            [from_message(message, ProbeInfo) for message in page.probes],
            page.next_page_token,
        ),
    )


def delete_probe(probe: str, etag: str, *, cascade: bool = False) -> Call[list[str]]:
    """Delete a probe, the codes of the dictionaries on it, and its index for :meth:`nearest`.

    Args:
        probe: id of the probe.
        etag: ``etag`` of the probe as :meth:`Client.probe` returned it; so that nothing is deleted
            that changed since.
        cascade: whether to delete the matches made on the probe too.

    Returns:
        Names of the matches that were deleted.

    Raises:
        NotFound: there is no probe with that id.
        Conflict: the probe changed since ``etag`` was read; a job uses it; or there are matches on
            it and ``cascade`` is False.
    """
    request = pb.DeleteProbeRequest(name=to_name("probes", probe), etag=etag, cascade=cascade)
    return then(ask(request, pb.DeleteProbeResponse), lambda found: list(found.deleted))


def nearest(
    feature: FeatureRef | None = None,
    among: Sequence[DictionaryInfo | str] | None = None,
    count: int = 5,
    *,
    probe: str | None = None,
    text: str | Sequence[int] | None = None,
    direction: "NDArray[np.generic] | Tensor | None" = None,
    codes: "NDArray[np.generic] | Tensor | None" = None,
    model: "LoadedModel | RecordingInfo | str | None" = None,
    site: str = "",
) -> Call[Hits]:
    """Return the features that are most like something: a feature, a text, a direction or codes.

    Give one of them. What cannot be compared is left out and named in ``skipped`` of the result.

    - ``feature``: features of other dictionaries that fire where it does on a probe, documents that
      no dictionary was trained on. Sorted by correlation.
    - ``text`` with ``model``: features that fire on the text, of all dictionaries that were trained
      on that model. It runs here; its activations are sent. Sorted by ``share``, the activation
      over the feature's highest on the newest probe.
    - ``direction`` with ``model``: features that write such a direction. Sorted by ``cosine``.
    - ``codes`` with ``probe``: features that fire like them. Sorted by correlation.

    Args:
        feature: such as ``client.dictionary_info("a").feature(1207)``.
        among: the dictionaries to search, or their ids. None: all others that fit.
        count: most hits per dictionary, 1 to 100.
        probe: id of the probe. None: the newest on which all these dictionaries were encoded; where
            there is none, one of held-out documents that their recordings share is built first.
        text: a text; of a model without tokenizer token ids.
        direction: ``[width]``, in the scale in which the recording holds activations.
        codes: activations on the segments of ``probe``, ``[segments]``; 0 where silent.
        model: for a text a live model, as of :func:`isogloss.models.load_model`; for a direction
            also a recording or its id.
        site: for a direction the site whose activations it is of; empty: any of its width.

    Returns:
        The hits of all dictionaries in one list, best first.

    Raises:
        NotFound: there is no such dictionary or probe, or a dictionary was not encoded on it.
        InvalidInput: not one thing to compare with is given, or what says nothing of it; no such
            feature; none of ``among`` can be compared, or ``count`` is out of range.
        DeadFeature: the feature fires too rarely on the probe to be compared.
        ShapeError: the direction or the codes have another length.
    """
    names = _named(among)
    check_whole("count", count, 1)
    _check_asked(
        {"feature": feature, "text": text, "direction": direction, "codes": codes},
        {"probe": probe, "model": model, "site": site or None},
    )
    if text is not None:
        return of_text(text, model, names, count)
    if direction is not None:
        return of_direction(direction, model, site, names, count)
    if codes is not None:
        return of_codes(codes, probe, names, count)
    return _of_feature(cast("FeatureRef", feature), names, count, probe)


def _named(among: Sequence[DictionaryInfo | str] | None) -> list[str] | None:
    """Return the ids of dictionaries to search; None for all."""
    if among is None:
        return None
    if isinstance(among, str):
        raise InvalidInput(f"among is the text {among!r}, wanted a list: [{among!r}]")
    if not among:
        raise InvalidInput("among is empty: name dictionaries to search, or leave it out for all")
    return [ids.id_of(dictionary) for dictionary in among]


def _check_asked(asked: Mapping[str, object], told: Mapping[str, object]) -> None:
    """Refuse to compare with nothing or several things at once, and what says nothing of it."""
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise InvalidInput(
            f"{len(given)} of feature, text, direction and codes are given, wanted one of them"
        )
    (what,) = given
    for name, value in told.items():
        if value is not None and name not in _GOES_WITH[what]:
            raise InvalidInput(
                f"{name}={str(value)[:60]!r} says nothing of a {what}, which goes with "
                f"{' and '.join(_GOES_WITH[what])}: leave it out"
            )


def _of_feature(
    feature: FeatureRef, among: Sequence[str] | None, count: int, probe: str | None
) -> Call[Hits]:
    request = pb.NearestFeaturesRequest(
        feature=to_feature_name(feature),
        among=[to_name("dictionaries", name) for name in among or ()],
        count=count,
        probe=to_name("probes", probe) if probe else "",
    )
    try:
        return (yield from answered(request, ()))
    except NotFound:
        if request.probe:
            raise
    found = yield from comparable(feature.dictionary, among)
    request.probe = yield from _default_probe([found.first, *found.others])
    del request.among[:]
    request.among.extend(to_name("dictionaries", info.id) for info in found.others)
    return (yield from answered(request, found.skipped))


def _default_probe(dictionaries: Sequence[DictionaryInfo]) -> Call[str]:
    """Build a probe of the recordings that dictionaries are trained on; return its name."""
    recordings = sorted({source.recording for info in dictionaries for source in info.sources})
    made = yield from create_probe(recordings, dictionaries=dictionaries)
    done = yield from wait(made.name, None)
    return reading(lambda made: to_name("probes", from_name("probes", made)), done.made)


def feature(
    feature: FeatureRef, *, probe: str | None = None, contexts: int = 8
) -> Call[FeatureInfo]:
    """Return how often, how strongly and where a feature fires on a probe.

    Args:
        feature: such as ``client.dictionary_info("a").feature(1207)``.
        probe: id of the probe. None: the newest probe on which the dictionary was encoded. Where
            there is none, the call first builds one of the held-out documents of the dictionary's
            recording, and waits for that.
        contexts: how many of the places where the feature fires most strongly to return.

    Returns:
        The figures, and the places with the text around them.

    Raises:
        NotFound: there is no such dictionary or probe, or the dictionary was not encoded on it.
        InvalidInput: the dictionary has no such feature, or ``contexts`` is below 1.
    """
    check_whole("contexts", contexts, 1)
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
        request.probe = yield from _default_probe([(yield from get_dictionary(dictionary))])
        answer = yield from ask(request, pb.Feature)
    return reading(lambda found: from_message(found, FeatureInfo), answer)


def match(
    a: DictionaryInfo | str,
    b: DictionaryInfo | str,
    *,
    match: str | None = None,
    probe: str | None = None,
    settings: Mapping[str, Setting] | None = None,
    steps: Sequence[int] | None = None,
    ceilings: Sequence[MatchInfo | str] = (),
    floors: Sequence[MatchInfo | str] = (),
    time_limit_s: float | None = None,
    request_id: str | None = None,
) -> Call[Started[MatchInfo]]:
    """Begin a job that matches all features of two dictionaries.

    Args:
        a: the first dictionary, or its id.
        b: the second dictionary, or its id.
        match: id of the match; None: an id made of the arguments, equal for equal settings.
        probe: id of the probe to compare on; None: chosen or built as in :meth:`nearest`.
        settings: values for fields of :class:`isogloss.universality.MatchSettings`, by name.
        steps: training steps to compare at, as in :meth:`create_probe`.
        ceilings: matches on the same probe and settings of one of the two dictionaries with another
            one of its own model and site (another seed): the most that could be found.
        floors: matches on the same probe and settings of one of the two with a dictionary that has
            nothing to share, such as one that :meth:`floor` makes: what is found anyway.
        time_limit_s: for how many seconds the job may run; None: as long as the server lets it.
        request_id: any text; a second call with the same one returns the first call's job.

    Returns:
        A handle on the job; its result is the match, with the numbers of the ceilings and floors
        beside its own.

    Raises:
        NotFound: there is no such dictionary, probe or match.
        InvalidInput: a setting is unknown.

    The job ends with InvalidInput where a ceiling or floor is on another probe, of other settings,
    or of neither dictionary.
    """
    names = ids.id_of(a), ids.id_of(b)
    wanted = named_steps(steps)
    references = [
        [to_name("matches", ids.id_of(one)) for one in some] for some in (ceilings, floors)
    ]
    name = match or ids.match_id(*names, probe, settings or {}, wanted, references)
    request = pb.CreateMatchRequest(
        match_id=from_name("matches", to_name("matches", name)),
        a=to_name("dictionaries", names[0]),
        b=to_name("dictionaries", names[1]),
        probe=to_name("probes", probe) if probe else "",
        settings=fill(pb.MatchSettings(), settings or {}),
        steps=wanted,
        ceilings=references[0],
        floors=references[1],
        time_limit_s=time_limit_s,
        request_id=ids.request_id(request_id),
    )
    return then(ask(request, Operation), started("matches", get_match))


def get_match(match: str) -> Call[MatchInfo]:
    """Return a match with its summary and details.

    Args:
        match: id of the match.

    Returns:
        The match; :attr:`~MatchInfo.details` holds the numbers that a report shows.

    Raises:
        NotFound: there is no match with that id.
    """
    request = pb.GetMatchRequest(name=to_name("matches", match))
    return then(ask(request, pb.Match), lambda message: from_message(message, MatchInfo))


def matches() -> Call[list[MatchInfo]]:
    """Return all matches of the store, sorted by id, without their details."""
    return collect(
        lambda token: pb.ListMatchesRequest(page_size=MAX_PAGE, page_token=token),
        pb.ListMatchesResponse,
        lambda page: (
            [from_message(message, MatchInfo) for message in page.matches],
            page.next_page_token,
        ),
    )


def pairs(match: MatchInfo | str, *, min_r: float | None = None) -> Call[list[PairInfo]]:
    """Return the mutual pairs of a match: features that are each other's best match.

    Args:
        match: the match, or its id.
        min_r: leave out pairs whose correlation is lower; None: return all.

    Returns:
        The pairs, highest correlation first.

    Raises:
        NotFound: there is no match with that id.
    """
    parent = to_name("matches", ids.id_of(match))
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
        match: id of the match.
        etag: ``etag`` of the match as :meth:`Client.get_match` returned it; so that nothing is
            deleted that changed since.

    Returns:
        None, when the match is deleted.

    Raises:
        NotFound: there is no match with that id.
        Conflict: the match changed since ``etag`` was read.
    """
    request = pb.DeleteMatchRequest(name=to_name("matches", match), etag=etag)
    return then(ask(request, pb.DeleteMatchResponse), lambda _: None)


class UniversalityClient(Connection):
    """The methods of :class:`isogloss.Client` about probes, nearest features and matches."""

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
    """The methods of :class:`isogloss.AsyncClient` about probes, nearest features and matches."""

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
