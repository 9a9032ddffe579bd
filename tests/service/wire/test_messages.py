from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.dictionaries import TrainConfig
from isogloss.dictionaries.kinds.topk import TopK
from isogloss.errors import InvalidInput, InvalidName, ShapeError
from isogloss.proto.v1 import dictionaries_pb2, types_pb2, universality_pb2
from isogloss.service.values import ids
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureContext,
    FeatureInfo,
    FeatureRef,
    Hit,
    JobInfo,
    MatchInfo,
    PairInfo,
    ProbeInfo,
)
from isogloss.service.wire.features import (
    from_dictionary,
    from_feature,
    from_feature_name,
    from_hit,
    from_match,
    from_operation,
    from_pair,
    from_probe,
    to_dictionary,
    to_feature,
    to_feature_name,
    to_hit,
    to_match,
    to_operation,
    to_pair,
    to_probe,
)
from isogloss.service.wire.recordings import (
    from_dtype,
    from_json,
    from_name,
    from_revision,
    from_time,
    offset_page,
    page_of,
    to_dtype,
    to_name,
    to_revision,
    to_time,
)
from isogloss.service.wire.settings import fill, set_fields
from isogloss.store import Revision, check_id
from isogloss.universality import MatchSettings

REVISION = Revision(recording="0" * 16, lanes=(("a.1", 3), ("b.2", 4)))
TIME_S = 1_700_000_000.125


def test_results_survive_the_wire() -> None:
    dictionary = DictionaryInfo(
        id="d",
        uid="u",
        etag="e",
        kind="topk",
        features=8,
        width=4,
        k=2,
        recording="r",
        recording_uid="0" * 16,
        site="layer/é",
        revision=REVISION,
        metrics={"fvu": 0.25},
        provenance={"config": {"k": 2}, "curve": [1, 2.5]},
        created=TIME_S,
    )
    assert from_dictionary(to_dictionary(dictionary)) == dictionary
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
    assert from_probe(to_probe(probe)) == probe
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
    assert from_match(to_match(match)) == match
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
    assert from_hit(to_hit(hit)) == hit
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
    assert from_feature(to_feature(feature)) == feature
    assert from_revision(to_revision(REVISION)) == REVISION
    assert to_revision(REVISION).id == REVISION.id


def test_every_field_of_a_pair_survives_the_wire() -> None:
    values: dict[str, object] = {}
    for number, field in enumerate(fields(PairInfo), 1):
        values[field.name] = {int: number, float: number / 8, bool: True, str: "token"}[field.type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    pair = PairInfo(**values)  # pyright: ignore[reportArgumentType] - of the fields' own types
    assert from_pair(to_pair(pair)) == pair
    assert pair.excess == pair.r - pair.token_null


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"])
def test_a_job_survives_as_a_long_running_operation(state: str) -> None:
    job = JobInfo(
        name="train-1",
        kind="train",
        state=state,
        step=3,
        total_steps=9,
        metrics={"fvu": 0.5},
        attempt=2,
        created=TIME_S,
        updated=TIME_S + 1,
        made="dictionaries/d" if state == "SUCCEEDED" else "",
        error=("SHAPE_ERROR", "found 3, wanted 4") if state == "FAILED" else None,
    )
    operation = to_operation(job)
    assert operation.done == job.is_done
    assert from_operation(operation) == job


def test_the_settings_on_the_wire_are_those_of_the_rooms_below() -> None:
    train = {field.name for field in dictionaries_pb2.TrainConfig.DESCRIPTOR.fields}
    common = {field.name for field in fields(TrainConfig)} - {"settings", "wiring"}
    assert train == common | {field.name for field in fields(TopK)}
    match = {field.name for field in universality_pb2.MatchSettings.DESCRIPTOR.fields}
    assert match == {field.name for field in fields(MatchSettings)}


def test_settings_left_out_stay_left_out_and_the_others_keep_their_type() -> None:
    config = fill(dictionaries_pb2.TrainConfig(), {"features": 64, "seed": 0, "epochs": None})
    assert set_fields(config) == {"features": 64, "seed": 0}
    assert TrainConfig.from_dict(set_fields(config)).settings == {"features": 64}
    settings = fill(universality_pb2.MatchSettings(), {"keys": ["none", "token"], "min_r": 0.25})
    assert MatchSettings.from_dict(set_fields(settings)).min_r == 0.25


@pytest.mark.parametrize(
    "values", [{"k": "two"}, {"k": True}, {"k": 1.5}, {"k": 2**70}, {"k": [1]}, {"colour": 1}]
)
def test_settings_of_the_wrong_type_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="setting"):
        fill(dictionaries_pb2.TrainConfig(), values)


@pytest.mark.parametrize(
    "name", ["", "recordings/", "recordings/A", "probes/a", "recordings/a/b", "recordings/../x"]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        from_name("recordings", name)


@pytest.mark.parametrize(
    "name", ["dictionaries/a", "dictionaries/a/features/-1", "dictionaries/a/features/1.5", "a/1"]
)
def test_a_feature_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        from_feature_name(name)


def test_names_come_back() -> None:
    assert from_name("recordings", to_name("recordings", "a-1")) == "a-1"
    ref = FeatureRef(dictionary="a", feature=1207)
    assert from_feature_name(to_feature_name(ref)) == ref
    with pytest.raises(InvalidName, match="lower-case"):
        to_name("recordings", "A")
    with pytest.raises(InvalidInput):
        FeatureRef(dictionary="a", feature=-1)


@given(st.floats(0, 4e9))
def test_times_are_kept_to_the_microsecond(seconds: float) -> None:
    assert from_time(to_time(seconds)) == pytest.approx(seconds, abs=1e-6, rel=0)


def test_an_unknown_dtype_and_json_that_is_no_object_are_refused() -> None:
    assert from_dtype(to_dtype("bfloat16")) == "bfloat16"
    with pytest.raises(ShapeError):
        from_dtype(types_pb2.DTYPE_UNSPECIFIED)
    with pytest.raises(ShapeError):
        to_dtype("int8")
    assert from_json("", "x") == {}
    for text in ("[1]", "{", "[" * 100_000):
        with pytest.raises(InvalidInput, match="ancestry"):
            from_json(text, "ancestry")


@given(st.sets(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)), st.integers(1, 5))
def test_pages_put_together_are_the_list(ids: set[str], size: int) -> None:
    items = sorted(ids)
    found: list[str] = []
    token = ""
    while True:
        page, token = page_of(items, str, size, token)
        assert len(page) <= size
        found += page
        if not token:
            break
    assert found == items


@given(st.integers(0, 40), st.integers(1, 9))
def test_pages_by_number_cover_everything_once(total: int, size: int) -> None:
    seen: list[int] = []
    token = ""
    while True:
        start, count, token = offset_page(total, size, token)
        seen += range(start, start + count)
        if not token:
            break
    assert seen == list(range(total))


def test_page_requests_that_make_no_sense_are_refused() -> None:
    for size, token in ((-1, ""), (1, "!"), (1, "ü")):
        with pytest.raises(InvalidInput, match="page_"):
            page_of(["a"], str, size, token)
        with pytest.raises(InvalidInput, match="page_"):
            offset_page(3, size, token)


@given(st.text(max_size=90), st.text(max_size=30), st.integers(1, 2**20))
def test_made_up_ids_are_valid_and_differ_with_the_work(
    site: str, other: str, features: int
) -> None:
    config: dict[str, ids.Setting] = {"features": features, "k": 4}
    made = ids.dictionary_id("a-recording", site, config)
    assert check_id(made) == made
    assert made == ids.dictionary_id("a-recording", site, {**config, "seed": None})
    assert made != ids.dictionary_id("a-recording", site, {**config, "seed": 1})
    if other != site:
        assert made != ids.dictionary_id("a-recording", other, config)
    match = ids.match_id(made, "b", None, {})
    assert check_id(match) == match
    assert match != ids.match_id("b", made, None, {})
