from dataclasses import fields, replace

from isogloss.proto.v1 import dictionaries_pb2, types_pb2, universality_pb2
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureContext,
    FeatureInfo,
    Hit,
    MatchInfo,
    PairInfo,
    ProbeInfo,
    SourceInfo,
)
from isogloss.service.wire.messages import from_message, to_message
from isogloss.store import Revision

REVISION = Revision(recording="0" * 16, lanes=(("a.1", 3), ("b.2", 4)))
SOURCE = SourceInfo(recording="r", recording_uid="0" * 16, site="layer/é", revision=REVISION)
TIME_S = 1_700_000_000.125


def test_results_survive_the_wire() -> None:
    dictionary = DictionaryInfo(
        id="d",
        uid="u",
        etag="e",
        kind="topk",
        settings={"features": 8, "k": 2, "l1": 0.25, "of": [1, "a", None, True, {"x": 2}]},
        wiring="crosscoder",
        features=8,
        width=4,
        sources=(SOURCE, replace(SOURCE, site="layer.2")),
        metrics={"fvu": 0.25},
        provenance={"config": {"k": 2}, "curve": [1, 2.5]},
        created=TIME_S,
    )
    message = to_message(dictionary, dictionaries_pb2.Dictionary)
    assert from_message(message, DictionaryInfo) == dictionary
    assert (message.recording, message.site, message.k) == ("recordings/r", "layer/é", 2)
    for field in ("sources", "settings", "wiring"):
        message.ClearField(field)
    old = from_message(message, DictionaryInfo)
    assert (old.recording, old.site, old.sources) == ("r", "layer/é", (SOURCE,))
    probe = ProbeInfo(
        id="p",
        uid="u",
        etag="e",
        recordings=("a", "b"),
        dictionaries=("d",),
        grid="tokens",
        documents=3,
        segments=9,
        created=TIME_S,
    )
    assert from_message(to_message(probe, universality_pb2.Probe), ProbeInfo) == probe
    match = MatchInfo(
        id="m",
        uid="u",
        etag="e",
        a="d",
        b="d2",
        probe="p",
        pairs=3,
        created=TIME_S,
        text="text",
        details={"data": [1, None]},
    )
    assert from_message(to_message(match, universality_pb2.Match), MatchInfo) == match
    hit = Hit(
        dictionary="d",
        feature=7,
        r=0.5,
        excess=0.25,
        margin=0.1,
        mutual=True,
        cofires=3,
        fires=4,
        partial_token=-0.5,
    )
    assert from_message(to_message(hit, universality_pb2.Hit), Hit) == hit
    context = FeatureContext(document=2**64 - 1, before="a", peak="b", after="c", value=1.5)
    feature = FeatureInfo(
        dictionary="d",
        feature=7,
        probe="p",
        fires=3,
        density=0.5,
        max_activation=1.25,
        contexts=(context,),
    )
    assert from_message(to_message(feature, universality_pb2.Feature), FeatureInfo) == feature
    assert from_message(to_message(REVISION, types_pb2.Revision), Revision) == REVISION
    assert to_message(REVISION, types_pb2.Revision).id == REVISION.id


def test_every_field_of_a_pair_survives_the_wire() -> None:
    values: dict[str, object] = {}
    for number, field in enumerate(fields(PairInfo), 1):
        values[field.name] = {int: number, float: number / 8, bool: True, str: "token"}[field.type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    pair = PairInfo(**values)  # pyright: ignore[reportArgumentType] - of the fields' own types
    assert from_message(to_message(pair, universality_pb2.Pair), PairInfo) == pair
    assert pair.excess == pair.r - pair.token_null


def test_a_server_that_says_nothing_of_steps_has_rows_of_step_0() -> None:
    message = to_message(replace(SOURCE, steps=(3, 2**64 - 1)), dictionaries_pb2.Source)
    assert from_message(message, SourceInfo).steps == (3, 2**64 - 1)
    message.ClearField("steps")
    assert from_message(message, SourceInfo).steps == (0,)
