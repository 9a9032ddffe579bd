"""Dictionaries, probes, features and matches: where they differ from their messages."""

from collections.abc import Iterable
from typing import cast

from isogloss.proto.v1 import dictionaries_pb2
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureContext,
    FeatureInfo,
    FeatureRef,
    Hit,
    MatchInfo,
    PairInfo,
    ProbeInfo,
    SiteRef,
    Skipped,
    SourceInfo,
)
from isogloss.service.wire.convert import Joined, declare, from_message, to_message
from isogloss.service.wire.names import from_feature_name, to_feature_name

_MADE = {"id": "name", "created": "create_time"}


def _active(found: DictionaryInfo) -> int:
    """Return the number of features that may fire on one row; 0 where the kind sets no bound."""
    k = found.settings.get("k")
    return k if isinstance(k, int) else 0


def _read_sources(message: dictionaries_pb2.Dictionary) -> tuple[tuple[SourceInfo, ...]]:
    """Return the sources; before there were several, one stood in fields of its own."""
    single = dictionaries_pb2.Source(
        recording=message.recording,
        recording_uid=message.recording_uid,
        site=message.site,
        revision=message.revision,
    )
    found = message.sources or [single]
    return (tuple(from_message(source, SourceInfo) for source in found),)


def _first(found: DictionaryInfo) -> dictionaries_pb2.Source:
    return to_message(found.sources[0], dictionaries_pb2.Source)


def _write_steps(steps: object) -> object:
    return steps


def _read_steps(steps: object) -> object:
    """Return steps as they came; servers that know none say nothing of them."""
    return tuple(cast("Iterable[int]", steps)) or (0,)


declare(
    SourceInfo,
    dictionaries_pb2.Source,
    resources={"recording": "recordings"},
    converted={"steps": (_write_steps, _read_steps)},
)
declare(
    SiteRef,
    dictionaries_pb2.Source,
    resources={"recording": "recordings"},
    left_out=("recording_uid", "revision", "steps"),
)
declare(
    DictionaryInfo,
    dictionaries_pb2.Dictionary,
    renamed=_MADE,
    resources={"id": "dictionaries"},
    joined=[
        Joined(
            "sources",
            ("sources",),
            lambda found: [to_message(s, dictionaries_pb2.Source) for s in found.sources],
            _read_sources,
        ),
        Joined("recording", (), lambda found: _first(found).recording),
        Joined("recording_uid", (), lambda found: _first(found).recording_uid),
        Joined("site", (), lambda found: _first(found).site),
        Joined("revision", (), lambda found: _first(found).revision),
        Joined("k", (), _active),
    ],
)
declare(
    ProbeInfo,
    pb.Probe,
    renamed=_MADE,
    resources={"id": "probes", "recordings": "recordings", "dictionaries": "dictionaries"},
)
declare(
    MatchInfo,
    pb.Match,
    renamed={**_MADE, "text": "summary", "details": "result_json"},
    resources={"id": "matches", "a": "dictionaries", "b": "dictionaries", "probe": "probes"},
)
declare(
    PairInfo,
    pb.Pair,
    joined=[Joined("replicated", (), lambda found: found.replicated)],
)
declare(FeatureContext, pb.Context, renamed={"value": "activation"})


def _name(found: Hit | FeatureInfo) -> str:
    return to_feature_name(FeatureRef(dictionary=found.dictionary, feature=found.feature))


def _ref(name: str) -> tuple[str, int]:
    ref = from_feature_name(name)
    return ref.dictionary, ref.feature


declare(
    Hit,
    pb.Hit,
    joined=[Joined("feature", ("dictionary", "feature"), _name, lambda m: _ref(m.feature))],
)
declare(
    Skipped,
    pb.Skipped,
    renamed={"why": "reason"},
    resources={"dictionary": "dictionaries"},
)
declare(
    FeatureInfo,
    pb.Feature,
    resources={"probe": "probes"},
    joined=[Joined("name", ("dictionary", "feature"), _name, lambda m: _ref(m.name))],
)
