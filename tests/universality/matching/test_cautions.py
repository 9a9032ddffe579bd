"""Cautions fire on what they are for, and keep silent on what they are not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.universality.matching.cautions import (
    Caution,
    ProbeFacts,
    pair_cautions,
    share_interval,
    shared_ancestry,
)
from isogloss.universality.matching.pairs import Pairs

Array = NDArray[Any]


def pairs(count: int = 60, **columns: Array) -> Pairs:
    """Good pairs: strong, frequent, and not explained by anything."""
    full: dict[str, Array] = {
        "feature_a": np.arange(count, dtype=np.int32),
        "feature_b": np.arange(count, dtype=np.int32)[::-1].copy(),
        **dict.fromkeys(("r_choose", "r", "ci_high"), np.full(count, 0.6)),
        **dict.fromkeys(("margin", "partial_token"), np.full(count, 0.4)),
        **dict.fromkeys(("ci_low", "jaccard"), np.full(count, 0.3)),
        **dict.fromkeys(("fires_a", "fires_b", "cofires"), np.full(count, 200)),
        **dict.fromkeys(("token_null", "position_null", "document_null"), np.full(count, 0.1)),
        **dict.fromkeys(("eta2_token_a", "eta2_token_b"), np.full(count, 0.2)),
        **dict.fromkeys(("rank_a", "rank_b"), np.ones(count, np.int32)),
        **dict.fromkeys(("replicates", "beyond_token"), np.ones(count, np.int8)),
        **dict.fromkeys(("beyond_partial", "beyond_low", "beyond_high"), np.full(count, 0.4)),
        "beyond_p": np.zeros(count),
        **dict.fromkeys(("cosine", "b_given_a", "a_given_b"), np.full(count, 0.6)),
        **dict.fromkeys(("decoder_cosine", "encoder_cosine"), np.full(count, np.nan)),
        "movable": np.full(count, 200),
        **dict.fromkeys(("ci_high_loose", "positional"), np.zeros(count, bool)),
    }
    return Pairs(**(full | columns))


def codes_of(found: tuple[Caution, ...]) -> list[str]:
    return [caution.code for caution in found]


def judge(
    found: Pairs, sources: tuple[int, int] = (100, 100), token_bias: float = 0.0, **changes: Any
) -> tuple[Caution, ...]:
    facts = ProbeFacts(documents=(200, 200), sources=sources, token_bias=token_bias, **changes)
    return pair_cautions(found, facts, min_fires=20)


def test_good_pairs_raise_no_caution() -> None:
    assert judge(pairs()) == ()


def test_related_models_are_named_with_the_reason() -> None:
    found = shared_ancestry(related=True, similarity=0.885, why="word embeddings agree")
    assert found is not None
    assert "word embeddings agree" in found.message
    assert found.value == 0.885
    assert shared_ancestry(related=False, similarity=0.01, why="") is None


def labels(yes: int, no: int, undecided: int = 0) -> Array:
    return np.repeat(np.array([1, 0, 2], np.int8), [yes, no, undecided])


@pytest.mark.parametrize(
    ("yes", "no", "code"),
    [
        (0, 300, "TOKEN_DRIVEN"),
        (6, 300, "TOKEN_DRIVEN"),  # at most 4.2 %
        (9, 300, "PARTLY_TOKEN"),  # at most 5.4 %
        (60, 60, "PARTLY_TOKEN"),
        (70, 60, "PARTLY_TOKEN"),  # 54 %, 45 % at least
        (80, 55, None),  # 59 %, 51 % at least
    ],
)
def test_pairs_of_their_token_are_told_from_pairs_that_partly_are(
    yes: int, no: int, code: str | None
) -> None:
    found = judge(pairs(yes + no, beyond_token=labels(yes, no)))
    assert codes_of(found) == ([] if code is None else [code])
    if code is not None:
        assert found[0].value == pytest.approx(no / (yes + no))


def test_how_much_the_token_drives_is_said_with_its_interval() -> None:
    beyond = labels(20, 80, 10)
    token = np.where(np.arange(110) < 55, 0.4, 0.1)
    token[:10] = np.nan
    (found,) = judge(pairs(110, beyond_token=beyond, token_null=token))
    low, high = share_interval(20, 100)
    assert 0.13 < low < 0.14
    assert 0.28 < high < 0.3
    assert f"Of the 100 pairs with r >= 0.3 that could be tested, 20.0% ({low:.1%}" in found.message
    assert "10 are undecided" in found.message
    assert "in 45% (36% to 55%) of 100" in found.message


def test_nothing_is_said_of_the_token_where_nothing_was_decided() -> None:
    assert judge(pairs(beyond_token=np.full(60, 2, np.int8))) == ()
    assert share_interval(0, 0) == (0.0, 1.0)


def test_weak_pairs_do_not_count_for_cautions_about_pairs() -> None:
    r, beyond = np.full(120, 0.6), labels(60, 60)
    r[60:] = 0.2
    assert judge(pairs(120, r=r, beyond_token=beyond)) == ()


def test_pairs_that_the_position_gives_are_positional() -> None:
    position = np.full(60, 0.0)
    position[:7] = 0.4
    assert codes_of(judge(pairs(position_null=position))) == ["POSITIONAL"]


def test_rare_pairs_and_few_pairs_and_small_probes_are_named() -> None:
    assert codes_of(judge(pairs(fires_a=np.full(60, 30)))) == ["FEW_FIRINGS"]
    assert codes_of(judge(pairs(19))) == ["FEW_PAIRS"]
    assert codes_of(judge(pairs(0))) == ["FEW_PAIRS"]
    assert codes_of(judge(pairs(), sources=(100, 12))) == ["SMALL_PROBE"]
    assert codes_of(judge(pairs(), token_bias=0.4)) == ["RARE_TOKENS"]
    assert codes_of(judge(pairs(), is_folded=True)) == ["FOLDED_CASE"]


def test_a_position_that_explains_what_is_beyond_the_token_counts() -> None:
    positional = np.arange(60) < 6
    assert codes_of(judge(pairs(positional=positional))) == ["POSITIONAL"]
    assert judge(pairs(positional=positional & (np.arange(60) > 0))) == ()


def test_a_caution_survives_its_dictionary_form() -> None:
    caution = Caution(code="POSITIONAL", message="why", value=0.25)
    assert Caution.from_dict(caution.to_dict()) == caution


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'ODD'; use one of SHARED_INIT"):
        replace(Caution(code="POSITIONAL", message="", value=0.0), code="ODD")


def some(count: int, value: float, other: float) -> Array:
    """Sixty values, of which so many are the first."""
    return np.where(np.arange(60) < count, value, other)


@pytest.mark.parametrize(
    ("columns", "raised"),
    [
        ({"position_null": some(6, 0.3, 0.1)}, ["POSITIONAL"]),
        ({"position_null": some(5, 0.3, 0.1)}, []),
        ({"position_null": some(60, 0.299, 0.1)}, []),
        ({"fires_a": some(30, 49, 900)}, ["FEW_FIRINGS"]),
        ({"fires_b": some(30, 49, 900)}, ["FEW_FIRINGS"]),
        ({"fires_b": some(29, 49, 900)}, []),
        ({"fires_a": np.full(60, 50)}, []),
        ({"fires_a": some(30, 49, 900), "fires_b": some(30, 900, 49)}, ["FEW_FIRINGS"]),
        ({"r": some(20, 0.3, 0.29)}, []),
        ({"r": some(19, 0.3, 0.29)}, ["FEW_PAIRS"]),
        ({"r": some(60, 0.29, 0.0), "token_null": np.full(60, 0.29)}, ["FEW_PAIRS"]),
    ],
)
def test_cautions_about_pairs_begin_where_they_say(
    columns: dict[str, Array], raised: list[str]
) -> None:
    assert codes_of(judge(pairs(60, **columns))) == raised


@pytest.mark.parametrize(
    ("sources", "bias", "values"),
    [
        ((20, 20), 0.0999, []),
        ((19, 20), 0.0, []),  # intervals rest on the half that reports
        ((20, 19), 0.0, [19.0]),
        ((20, 20), 0.1, [0.1]),
        ((20, 0), 0.3, [0.0, 0.3]),
    ],
)
def test_a_small_probe_has_few_sources_or_tokens_that_hardly_recur(
    sources: tuple[int, int], bias: float, values: list[float]
) -> None:
    found = judge(pairs(), sources=sources, token_bias=bias)
    assert [caution.value for caution in found] == values


def test_rare_tokens_are_named_with_what_they_would_explain_and_leave_unknown() -> None:
    token = np.where(np.arange(60) < 7, np.nan, 0.1)
    (found,) = judge(pairs(token_null=token), token_bias=0.34)
    assert "explain 34% by chance" in found.message
    assert "7 of the 60 pairs" in found.message


def test_text_that_several_sources_have_is_named_with_its_share() -> None:
    assert judge(pairs(), repeated=0.09) == ()
    (found,) = judge(pairs(), repeated=0.34)
    assert (found.code, found.value) == ("REPEATED_TEXT", 0.34)
    assert "34% of the segments of the report half stand in a run of 16" in found.message
    assert codes_of(judge(pairs(), sources=(100, 12), repeated=0.1)) == [
        "SMALL_PROBE",
        "REPEATED_TEXT",
    ]


def test_a_higher_min_fires_raises_what_counts_as_few() -> None:
    few = pairs(fires_a=np.full(60, 59))
    facts = ProbeFacts(documents=(99, 99), sources=(99, 99), token_bias=0.0)
    assert pair_cautions(few, facts, min_fires=59) == ()
    found = pair_cautions(few, facts, min_fires=60)
    assert codes_of(found) == ["FEW_FIRINGS"]
    assert "fewer than 60 segments" in found[0].message


def test_the_value_of_a_caution_is_the_number_in_its_message() -> None:
    shares = {
        "POSITIONAL": judge(pairs(position_null=some(45, 0.5, 0.1))),
        "FEW_FIRINGS": judge(pairs(fires_a=some(45, 30, 900))),
    }
    for code, found in shares.items():
        assert codes_of(found) == [code]
        assert found[0].value == 0.75
        assert "75%" in found[0].message
    (few,) = judge(pairs(7))
    assert few.value == 7.0
    assert "Only 7 pairs" in few.message
