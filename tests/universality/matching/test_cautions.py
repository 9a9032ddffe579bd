"""Cautions fire on what they are for, and keep silent on what they are not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.universality.matching.cautions import (
    Caution,
    aligned_pairs,
    initial_after_matching,
    pair_cautions,
    shared_ancestry,
    shared_init,
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
        "replicated": np.ones(count, bool),
    }
    return Pairs(**(full | columns))


def codes_of(found: tuple[Caution, ...]) -> list[str]:
    return [caution.code for caution in found]


def judge(
    found: Pairs, documents: tuple[int, int] = (100, 100), **changes: Any
) -> tuple[Caution, ...]:
    return pair_cautions(found, min_fires=20, documents=documents, **changes)


def unit(seed: int, features: int = 512, width: int = 48) -> Array:
    rows = np.random.default_rng(seed).standard_normal((features, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_good_pairs_raise_no_caution() -> None:
    assert judge(pairs(), movable_token=0.9) == ()


def test_equal_initial_hashes_are_named() -> None:
    found = shared_init(hash_a="abc", hash_b="abc")
    assert found is not None
    assert found.code == "SHARED_INIT"
    assert shared_init(hash_a="abc", hash_b="abd") is None
    assert shared_init(hash_a="", hash_b="") is None


def test_decoders_that_drifted_from_one_start_are_recognised() -> None:
    start = unit(0)
    found = shared_init(decoder_a=start + unit(1), decoder_b=start + unit(2))
    assert found is not None
    assert found.value == pytest.approx(0.5, abs=0.03)
    assert "same weights" in found.message


def test_independent_decoders_raise_no_caution_even_with_a_common_direction() -> None:
    common = unit(9, features=1)
    assert shared_init(decoder_a=unit(1), decoder_b=unit(2)) is None
    assert shared_init(decoder_a=unit(1) + common, decoder_b=unit(2) + common) is None


def test_decoders_of_different_shape_are_not_compared() -> None:
    assert shared_init(decoder_a=unit(1), decoder_b=unit(1, width=32)) is None
    with pytest.raises(ShapeError, match=r"\(3,\) and"):
        shared_init(decoder_a=np.ones(3), decoder_b=unit(1))


def test_initial_weights_that_agree_for_matched_pairs_are_recognised_after_a_permutation() -> None:
    start = unit(0)
    order = np.random.default_rng(3).permutation(512)
    matched = pairs(
        300,
        feature_a=np.arange(300, dtype=np.int32),
        feature_b=np.argsort(order)[:300].astype(np.int32),
    )
    found = initial_after_matching(start, start[order], matched)
    assert found is not None
    assert found.code == "SHARED_INIT"
    assert found.value > 0.9
    assert initial_after_matching(start, unit(5), matched) is None
    assert initial_after_matching(start, unit(5, width=9), matched) is None


def test_an_initial_decoder_smaller_than_the_features_matched_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"10 rows.*feature 59"):
        initial_after_matching(unit(1, features=10), unit(2), pairs())


def test_pairs_of_equal_index_far_above_chance_are_recognised() -> None:
    same = np.arange(60, dtype=np.int32)
    found = aligned_pairs(pairs(feature_b=same), 4096, 4096)
    assert found is not None
    assert found.value == 1.0
    assert "60 of 60" in found.message
    assert aligned_pairs(pairs(feature_b=same), 4096, 2048) is None


def test_a_few_equal_indices_are_chance() -> None:
    some = np.arange(60, dtype=np.int32)[::-1].copy()
    some[:2] = [0, 1]
    assert aligned_pairs(pairs(feature_b=some), 4096, 4096) is None
    assert aligned_pairs(pairs(0), 4096, 4096) is None


def test_related_models_are_named_with_the_reason() -> None:
    found = shared_ancestry(related=True, similarity=0.885, why="word embeddings agree")
    assert found is not None
    assert "word embeddings agree" in found.message
    assert found.value == 0.885
    assert shared_ancestry(related=False, similarity=0.01, why="") is None


def test_pairs_that_the_token_gives_are_token_driven() -> None:
    found = judge(pairs(token_null=np.full(60, 0.5), partial_token=np.full(60, 0.02)))
    assert codes_of(found) == ["TOKEN_DRIVEN"]
    assert found[0].value == 1.0
    assert "100% of the 60 pairs" in found[0].message


def test_a_small_partial_alone_makes_pairs_token_driven() -> None:
    partial = np.full(60, 0.05)
    partial[0] = np.nan
    assert codes_of(judge(pairs(partial_token=partial))) == ["TOKEN_DRIVEN"]


def test_weak_pairs_do_not_count_for_cautions_about_pairs() -> None:
    r, token = np.full(60, 0.6), np.full(60, 0.1)
    r[30:], token[30:] = 0.2, 0.2
    assert judge(pairs(r=r, token_null=token)) == ()


def test_pairs_that_the_position_gives_are_positional() -> None:
    position = np.full(60, 0.0)
    position[:7] = 0.4
    assert codes_of(judge(pairs(position_null=position))) == ["POSITIONAL"]


def test_rare_pairs_and_few_pairs_and_small_probes_are_named() -> None:
    assert codes_of(judge(pairs(fires_a=np.full(60, 30)))) == ["FEW_FIRINGS"]
    assert codes_of(judge(pairs(19))) == ["FEW_PAIRS"]
    assert codes_of(judge(pairs(0))) == ["FEW_PAIRS"]
    assert codes_of(judge(pairs(), documents=(100, 12))) == ["SMALL_PROBE"]
    assert codes_of(judge(pairs(), movable_token=0.2)) == ["SMALL_PROBE"]


def test_a_caution_survives_its_dictionary_form() -> None:
    caution = Caution(code="POSITIONAL", message="why", value=0.25)
    assert Caution.from_dict(caution.to_dict()) == caution


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'ODD'; use one of SHARED_INIT"):
        replace(Caution(code="POSITIONAL", message="", value=0.0), code="ODD")


def drifted(cosine: float, features: int = 64) -> tuple[Array, Array]:
    """Decoders with this cosine at every equal index, and 0 at every other, without noise."""
    start = np.eye(features, 2 * features)
    own = np.eye(features, 2 * features, k=features)
    return start, cosine * start + np.sqrt(1 - cosine**2) * own


def noisy(ratio: float) -> tuple[Array, Array]:
    """Sixteen rows of cosine 0.25 at equal index: so many of its standard errors above the rest.

    Every row of the first decoder has cosine +q, or -q, with all other rows of the second, so that
    the mean at different index is 0 and its deviation q.
    """
    q = 0.25 * np.sqrt(16) / ratio
    sign = np.where(np.arange(16) % 2, -1.0, 1.0)
    known = np.where(np.eye(16, dtype=bool), 0.25, q * sign)
    own = np.sqrt(1 - (known**2).sum(axis=1))
    return np.eye(16, 32), np.hstack([known, np.diag(own)])


def all_pairs(features: int = 64) -> Pairs:
    same = np.arange(features, dtype=np.int32)
    return pairs(features, feature_a=same, feature_b=same)


@pytest.mark.parametrize(("cosine", "raised"), [(0.095, False), (0.105, True)])
def test_decoders_are_alike_from_a_cosine_of_a_tenth(cosine: float, raised: bool) -> None:
    a, b = drifted(cosine)
    found = shared_init(decoder_a=a, decoder_b=b)
    matched = initial_after_matching(a, b, all_pairs())
    for caution in (found, matched):
        assert (caution is not None) is raised
        if caution is not None:
            assert caution.value == pytest.approx(cosine)
            assert f"mean cosine {cosine:.2f}" in caution.message


@pytest.mark.parametrize(("ratio", "raised"), [(5.0, False), (9.9, False), (10.1, True)])
def test_alike_decoders_exceed_ten_standard_errors(ratio: float, raised: bool) -> None:
    """Few short rows are alike by chance: a mean cosine of 0.25 alone is no sign."""
    a, b = noisy(ratio)
    assert (shared_init(decoder_a=a, decoder_b=b) is not None) is raised
    assert (initial_after_matching(a, b, all_pairs(16)) is not None) is raised


def test_the_cosine_at_other_indices_is_taken_off() -> None:
    """Rows that all share a direction are alike at every index, equal or not."""
    a, b = drifted(0.5)
    common = np.full((64, 1), 3.0)
    wide = [np.hstack([rows, common]) for rows in (a, b)]
    found = shared_init(decoder_a=wide[0], decoder_b=wide[1])
    assert found is None
    found = shared_init(decoder_a=np.hstack([a, common / 3]), decoder_b=np.hstack([b, common / 3]))
    assert found is not None
    # unit rows of norm sqrt(2): (0.5 + 1) / 2 at equal index, 1 / 2 at others
    assert found.value == pytest.approx(0.25)
    assert "mean cosine 0.75" in found.message
    assert "index 0.50" in found.message


def test_one_decoder_or_one_feature_cannot_be_compared() -> None:
    a, b = drifted(0.9)
    assert shared_init(decoder_a=a) is None
    assert shared_init(decoder_b=b) is None
    assert shared_init(decoder_a=a[:1], decoder_b=b[:1]) is None
    assert shared_init(decoder_a=a[:2], decoder_b=b[:2]) is not None
    assert initial_after_matching(a, b, all_pairs(1)) is None
    assert initial_after_matching(a, b, all_pairs(2)) is not None
    with pytest.raises(ShapeError):
        shared_init(decoder_a=a, decoder_b=b[0])


def test_equal_hashes_are_certain_and_need_no_decoder() -> None:
    found = shared_init(hash_a="abc", hash_b="abc", decoder_a=unit(1), decoder_b=unit(2))
    assert found is not None
    assert found.value == 1.0


def test_every_matched_feature_needs_an_initial_row() -> None:
    start = unit(1, features=60)
    assert initial_after_matching(start, unit(2, features=60), pairs()) is None
    with pytest.raises(ShapeError, match=r"59 rows.*feature 59"):
        initial_after_matching(start, unit(2, features=59), pairs())


def aligned(equal: int, count: int) -> Pairs:
    """Pairs of which so many have one index in both dictionaries."""
    index = np.arange(count, dtype=np.int32)
    other = index.copy()
    other[equal:] = np.roll(index[equal:], 1)
    return pairs(count, feature_a=index, feature_b=other)


@pytest.mark.parametrize(
    ("equal", "count", "features", "raised"),
    [
        (5, 100, 4096, True),
        (4, 60, 4096, False),  # fewer than five
        (5, 101, 4096, False),  # fewer than a twentieth of the pairs
        (6, 60, 100, True),  # ten times the 0.6 of chance
        (6, 60, 99, False),
    ],
)
def test_equal_indices_are_told_from_chance(
    equal: int, count: int, features: int, raised: bool
) -> None:
    found = aligned_pairs(aligned(equal, count), features, features)
    assert (found is not None) is raised
    if found is not None:
        assert found.value == equal / count
        assert f"{equal} of {count} matched pairs" in found.message
        assert f"chance gives {count / features:.1f}" in found.message


def some(count: int, value: float, other: float) -> Array:
    """Sixty values, of which so many are the first."""
    return np.where(np.arange(60) < count, value, other)


@pytest.mark.parametrize(
    ("columns", "raised"),
    [
        ({"token_null": some(30, 0.3, 0.1)}, ["TOKEN_DRIVEN"]),
        ({"token_null": some(29, 0.3, 0.1)}, []),
        ({"token_null": some(60, 0.299, 0.1)}, []),
        ({"partial_token": np.full(60, 0.095)}, ["TOKEN_DRIVEN"]),
        ({"partial_token": np.full(60, 0.1)}, []),
        ({"partial_token": some(31, 0.02, 0.9)}, ["TOKEN_DRIVEN"]),
        ({"partial_token": np.full(60, np.nan)}, ["TOKEN_DRIVEN"]),
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
    assert codes_of(judge(pairs(60, **columns), movable_token=0.9)) == raised


@pytest.mark.parametrize(
    ("documents", "movable", "value"),
    [
        ((30, 30), 0.5, None),
        ((29, 30), 0.5, 29.0),
        ((30, 29), None, 29.0),
        ((30, 30), 0.499, 0.499),
        ((30, 30), None, None),
    ],
)
def test_a_small_probe_is_one_of_few_documents_or_of_tokens_seen_once(
    documents: tuple[int, int], movable: float | None, value: float | None
) -> None:
    found = judge(pairs(), documents=documents, movable_token=movable)
    assert [caution.value for caution in found] == ([] if value is None else [value])


def test_a_higher_min_fires_raises_what_counts_as_few() -> None:
    few = pairs(fires_a=np.full(60, 59))
    assert pair_cautions(few, min_fires=59, documents=(100, 100)) == ()
    found = pair_cautions(few, min_fires=60, documents=(100, 100))
    assert codes_of(found) == ["FEW_FIRINGS"]
    assert "fewer than 60 segments" in found[0].message


def test_the_value_of_a_caution_is_the_number_in_its_message() -> None:
    shares = {
        "TOKEN_DRIVEN": judge(pairs(token_null=some(45, 0.5, 0.1))),
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
    (partial,) = judge(pairs(partial_token=some(31, 0.04, 0.06)))
    assert "median correlation is 0.04" in partial.message
