"""What can be asked of a job: specs read their own JSON and refuse what is none."""

import math

import pytest

from isogloss.errors import InvalidInput, InvalidName
from isogloss.service.values.job_kinds import read_spec
from isogloss.service.values.job_specs import (
    ImportSpec,
    JobSpec,
    MatchSpec,
    ProbeSpec,
    TrainSpec,
    grid_name,
)

TRAIN = {"dictionary": "small", "recording": "docs", "site": "layer.1", "config": {"k": 3}}
PROBE = {"probe": "shared", "recordings": ["docs"], "dictionaries": ["small", "large"]}
MATCH = {"match": "both", "a": "small", "b": "large", "probe": "shared", "settings": {"draws": 2}}


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        (TrainSpec, TRAIN),
        (ProbeSpec, PROBE),
        (ProbeSpec, {**PROBE, "holdout": 0.0}),
        (ProbeSpec, {**PROBE, "holdout": 0.125, "grid": "word_ends"}),
        (MatchSpec, MATCH),
        (MatchSpec, {**MATCH, "probe": None, "settings": {}}),
    ],
)
def test_a_spec_reads_the_json_that_it_writes(
    spec: type[JobSpec], values: dict[str, object]
) -> None:
    assert spec.from_dict(values).to_dict() == values


def test_a_spec_knows_what_it_makes_and_what_it_reads() -> None:
    train, probe, match = (
        TrainSpec.from_dict(TRAIN),
        ProbeSpec.from_dict(PROBE),
        MatchSpec.from_dict(MATCH),
    )
    assert (train.target, probe.target, match.target) == ("small", "shared", "both")
    assert train.reads == {("recording", "docs")}
    assert probe.reads == {
        ("recording", "docs"),
        ("dictionary", "small"),
        ("dictionary", "large"),
    }
    both = {("dictionary", "small"), ("dictionary", "large")}
    assert match.reads == both | {("probe", "shared")}
    assert MatchSpec(match="both", a="small", b="large").reads == both


def test_what_a_match_and_a_probe_leave_open_is_none() -> None:
    for empty in (None, ""):
        assert MatchSpec.from_dict({**MATCH, "probe": empty, "settings": None}) == MatchSpec(
            match="both", a="small", b="large"
        )
    probe = ProbeSpec.from_dict({**PROBE, "holdout": None, "grid": None})
    assert (probe.holdout, probe.grid) == (None, None)
    holdout = ProbeSpec.from_dict({**PROBE, "holdout": 1}).holdout
    assert (holdout, type(holdout)) == (1.0, float)


@pytest.mark.parametrize(
    ("spec", "values", "says"),
    [
        (TrainSpec, {**TRAIN, "site": 3}, "field 'site' of a train job is int, wanted str"),
        (TrainSpec, {**TRAIN, "site": None}, "field 'site' of a train job is NoneType"),
        (TrainSpec, {"dictionary": "a"}, "field 'recording' of a train job is missing, wanted str"),
        (TrainSpec, {**TRAIN, "config": []}, "field 'config' of a train job is list, wanted dict"),
        (ProbeSpec, {**PROBE, "recordings": "docs"}, "'recordings' of a probe job is str"),
        (ProbeSpec, {**PROBE, "dictionaries": [1]}, "'dictionaries' of a probe job is int"),
        (ProbeSpec, {**PROBE, "holdout": True}, "'holdout' of a probe job is True, wanted a numb"),
        (ProbeSpec, {**PROBE, "holdout": "0.5"}, "'holdout' of a probe job is '0.5'"),
        (ProbeSpec, {**PROBE, "grid": "letters"}, "grid is 'letters', wanted 'tokens'"),
        (MatchSpec, {**MATCH, "probe": 7}, "field 'probe' of a match job is int"),
        (MatchSpec, {**MATCH, "settings": "x"}, "field 'settings' of a match job is str"),
    ],
)
def test_what_is_no_spec_is_refused_with_what_was_found(
    spec: type[JobSpec], values: dict[str, object], says: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        spec.from_dict(values)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "values", "what"),
    [(TrainSpec, TRAIN, "dictionary"), (ProbeSpec, PROBE, "probe"), (MatchSpec, MATCH, "match")],
)
def test_the_name_of_what_is_made_is_a_resource_id(
    spec: type[JobSpec], values: dict[str, object], what: str
) -> None:
    longest = "a" * 63
    assert spec.from_dict({**values, what: longest}).target == longest
    for name in ("", "Big", "9th", "a/b", longest + "a"):
        with pytest.raises(InvalidName, match=r"must match \[a-z\]") as caught:
            spec.from_dict({**values, what: name})
        assert f"{what} {name!r}" in str(caught.value)


def test_a_grid_is_one_of_two_or_left_open() -> None:
    assert [grid_name(value) for value in ("tokens", "word_ends", "", None)] == [
        "tokens",
        "word_ends",
        None,
        None,
    ]


@pytest.mark.parametrize("holdout", [-1.0, 1.5, 1e308, math.inf, math.nan])
def test_a_probe_of_no_share_of_the_documents_is_refused(holdout: float) -> None:
    with pytest.raises(InvalidInput, match="holdout is"):
        ProbeSpec(probe="p", recordings=("r",), dictionaries=(), holdout=holdout)


def test_a_probe_of_an_unknown_grid_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"grid is '\.\./\.\./x'"):
        grid_name("../../x")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("probe", {"probe": "p", "recordings": ["r"], "dictionaries": []}),
        ("match", {"match": "m", "a": "a", "b": "b"}),
    ],
)
def test_training_steps_stand_in_a_spec_only_where_some_are_named(
    kind: str, values: dict[str, object]
) -> None:
    assert "steps" not in read_spec(kind, values).to_dict()
    spec = read_spec(kind, {**values, "steps": [20, 2**64 - 1, 20]})
    assert spec.to_dict()["steps"] == [20, 2**64 - 1]
    assert read_spec(kind, spec.to_dict()) == spec
    for wrong in (7, [-1], ["7"]):
        with pytest.raises(InvalidInput, match="step"):
            read_spec(kind, {**values, "steps": wrong})


@pytest.mark.parametrize("features", [0, -1, 1 << 31])
def test_codes_are_of_one_feature_at_least_and_fewer_than_an_index_can_name(features: int) -> None:
    fields = {"dictionary": "d", "probe": "p", "upload": "0" * 64}
    with pytest.raises(InvalidInput, match=f"features is {features}, wanted 1 to"):
        ImportSpec(**fields, features=features)
    assert [ImportSpec(**fields, features=n).features for n in (1, (1 << 31) - 1)]
