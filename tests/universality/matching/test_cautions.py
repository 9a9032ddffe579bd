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
