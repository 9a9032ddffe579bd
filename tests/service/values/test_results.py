"""What a client gets back: what follows from its fields, and what is refused."""

import dataclasses
import math

import numpy as np
import pytest

from isogloss.errors import InvalidInput
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureRef,
    Hit,
    JobInfo,
    MatchInfo,
    PairInfo,
    ProbeSegments,
    RecordingInfo,
    SourceInfo,
)
from isogloss.store import Revision
from isogloss.store.testing import sample_spec

REVISION = Revision(recording="u1", lanes=(("l1", 5), ("l2", 7)))
DICTIONARY = DictionaryInfo(
    id="small",
    uid="d1",
    etag="e",
    kind="topk",
    features=8,
    width=4,
    settings={"k": 2},
    wiring="sae",
    sources=(SourceInfo(recording="docs", recording_uid="u1", site="layer.1", revision=REVISION),),
    metrics={},
    provenance={},
    created=0.0,
)
PAIR = PairInfo(
    feature_a=1,
    feature_b=2,
    r_choose=0.9,
    margin=0.1,
    r=0.75,
    ci_low=0.7,
    ci_high=0.8,
    fires_a=5,
    fires_b=6,
    cofires=4,
    jaccard=0.5,
    token_null=0.5,
    position_null=0.0,
    document_null=0.0,
    partial_token=0.1,
    explained_by="none",
    ci_high_loose=True,
    rank_a=1,
    rank_b=1,
    eta2_token_a=0.2,
    eta2_token_b=0.2,
    replicates="yes",
    beyond_token="undecided",
    beyond_partial=0.1,
    beyond_low=0.0,
    beyond_high=0.2,
    beyond_p=0.01,
    movable=4,
    positional=False,
    cosine=0.8,
    b_given_a=0.8,
    a_given_b=0.7,
    decoder_cosine=0.2,
    encoder_cosine=0.1,
)
JOB = JobInfo(
    name="train-1",
    kind="train",
    state="QUEUED",
    step=0,
    total_steps=0,
    metrics={},
    attempt=0,
    created=0.0,
    updated=0.0,
    made="",
    error=None,
)


def test_a_recording_has_the_id_of_its_description_and_the_rows_of_its_revision() -> None:
    info = RecordingInfo(
        uid="u1", etag="e", spec=sample_spec("docs"), revision=REVISION, created=0.0
    )
    assert (info.id, info.rows) == ("docs", 12)


def test_a_feature_is_named_within_the_bounds_of_its_dictionary() -> None:
    assert [DICTIONARY.feature(number).feature for number in (0, 7)] == [0, 7]
    assert DICTIONARY.feature(7) == FeatureRef(dictionary="small", feature=7)
    for number in (-1, 8):
        with pytest.raises(InvalidInput, match=r"is not in \[0, 8\) of dictionary 'small'"):
            DICTIONARY.feature(number)


def test_a_name_of_a_feature_is_short_and_never_negative() -> None:
    assert str(FeatureRef(dictionary="small", feature=0)) == "small/0"
    with pytest.raises(InvalidInput, match="feature is -1; it must be 0 or more"):
        FeatureRef(dictionary="small", feature=-1)


def test_a_hit_names_its_feature() -> None:
    hit = Hit(
        dictionary="large",
        feature=3,
        r=0.5,
        excess=0.25,
        margin=0.1,
        mutual=True,
        cofires=2,
        fires=3,
        partial_token=math.nan,
    )
    assert hit.ref == FeatureRef(dictionary="large", feature=3)


def test_excess_is_what_tokens_do_not_explain_and_nan_where_that_is_unknown() -> None:
    assert PAIR.excess == 0.25
    for unknown in (math.nan, math.inf):
        assert math.isnan(dataclasses.replace(PAIR, token_null=unknown).excess)


def test_a_token_that_speaks_against_a_pair_adds_to_its_excess() -> None:
    assert dataclasses.replace(PAIR, token_null=-0.5).excess == 1.25


def test_a_match_has_its_text_as_its_summary() -> None:
    match = MatchInfo(id="m", uid="u", etag="e", a="a", b="b", probe="p", pairs=3, created=0.0)
    assert (match.summary(), match.details) == ("", {})
    assert dataclasses.replace(match, text="12 shared").summary() == "12 shared"


@pytest.mark.parametrize(
    ("state", "is_done"),
    [
        ("QUEUED", False),
        ("STARTING", False),
        ("RUNNING", False),
        ("CANCELLING", False),
        ("SUCCEEDED", True),
        ("FAILED", True),
        ("CANCELLED", True),
    ],
)
def test_three_states_of_a_job_are_final(state: str, is_done: bool) -> None:
    assert dataclasses.replace(JOB, state=state).is_done is is_done


def test_segments_of_a_probe_are_as_many_as_their_documents() -> None:
    segments = ProbeSegments(
        document=np.array([3, 3, 9], np.uint64),
        span=np.zeros((3, 2), np.uint32),
        half=np.zeros(3, np.int8),
        row=None,
        revision=None,
    )
    assert len(segments) == 3
