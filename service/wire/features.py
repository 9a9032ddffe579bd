"""Dictionaries, probes, features and matches: where they differ from their messages."""

from isogloss.proto.v1 import dictionaries_pb2
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureContext,
    FeatureInfo,
    FeatureRef,
    Hit,
    MatchInfo,
    ProbeInfo,
)
from isogloss.service.wire.convert import Joined, declare
from isogloss.service.wire.names import from_feature_name, to_feature_name

_MADE = {"id": "name", "created": "create_time"}

declare(
    DictionaryInfo,
    dictionaries_pb2.Dictionary,
    renamed=_MADE,
    resources={"id": "dictionaries", "recording": "recordings"},
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
    FeatureInfo,
    pb.Feature,
    resources={"probe": "probes"},
    joined=[Joined("name", ("dictionary", "feature"), _name, lambda m: _ref(m.name))],
)
