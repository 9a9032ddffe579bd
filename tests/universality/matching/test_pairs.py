"""Pairs are columns of one length, with views of what explains each."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import CorruptData, ShapeError
from isogloss.universality.matching.pairs import Pairs

Array = NDArray[Any]

FLOATS = ("r_choose", "margin", "r", "ci_low", "ci_high", "jaccard")
NULLS = ("token_null", "position_null", "document_null")
BEYOND = ("beyond_partial", "beyond_low", "beyond_high", "beyond_p")
MORE = ("cosine", "b_given_a", "a_given_b", "decoder_cosine", "encoder_cosine")
TOKEN = ("partial_token", "eta2_token_a", "eta2_token_b")


def pairs(**columns: Array) -> Pairs:
    count = len(next(iter(columns.values()))) if columns else 3
    whole = ("feature_a", "feature_b")
    counts = ("fires_a", "fires_b", "cofires")
    full: dict[str, Array] = {
        name: np.arange(count, dtype=np.int32 if name in whole else np.int64)
        for name in (*whole, *counts)
    }
    full |= {name: np.zeros(count) for name in (*FLOATS, *NULLS, *TOKEN, *BEYOND, *MORE)}
    full |= {name: np.ones(count, np.int32) for name in ("rank_a", "rank_b")}
    full["movable"] = np.ones(count, np.int64)
    full |= {name: np.zeros(count, np.int8) for name in ("replicates", "beyond_token")}
    full |= {name: np.zeros(count, bool) for name in ("ci_high_loose", "positional")}
    return Pairs(**(full | columns))


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"columns of pairs must all be \[pairs\]"):
        pairs(r=np.zeros(3), margin=np.zeros(2))


def test_excess_is_what_the_token_does_not_give() -> None:
    found = pairs(r=np.array([0.7, 0.5]), token_null=np.array([0.2, 0.6]))
    np.testing.assert_allclose(found.excess, [0.5, -0.1])


def test_the_label_is_the_first_null_that_gives_half_of_r() -> None:
    found = pairs(
        r=np.array([0.6, 0.6, 0.6, 0.6, -0.1]),
        token_null=np.array([0.3, 0.29, 0.0, 0.0, 0.0]),
        position_null=np.array([0.5, 0.4, 0.0, 0.0, 0.0]),
        document_null=np.array([0.5, 0.4, 0.3, 0.0, 0.0]),
    )
    assert found.explained_by == ["token", "position", "document", "none", "none"]


def test_a_position_that_was_tested_comes_before_the_nulls() -> None:
    found = pairs(
        r=np.array([0.6, 0.6]),
        token_null=np.array([0.5, np.nan]),
        position_null=np.array([0.1, 0.4]),
        positional=np.array([True, False]),
    )
    assert found.explained_by == ["position", "position"]


def test_labels_are_asked_for_by_name() -> None:
    found = pairs(replicates=np.array([0, 1, 2], np.int8))
    assert found.replicates_is("yes").tolist() == [False, True, False]
    assert found.replicates_is("undecided").tolist() == [False, False, True]
    assert found.beyond_token_is("no").all()
    assert found.row(2)["replicates"] == "undecided"


def test_a_row_is_json_with_none_for_what_is_undefined() -> None:
    found = pairs(r=np.array([0.5]), partial_token=np.array([np.nan])).row(0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["partial_token"] is None
    assert found["replicates"] == "no"
    assert found["ci_high_loose"] is False
    assert (found["r"], found["excess"], found["feature_a"]) == (0.5, 0.5, 0)


def test_taking_keeps_the_order_asked_for() -> None:
    found = pairs(r=np.array([0.1, 0.2, 0.3])).take(np.array([2, 0]))
    assert found.r.tolist() == [0.3, 0.1]
    assert found.feature_a.tolist() == [2, 0]
    assert len(found) == 2


def test_missing_columns_are_named() -> None:
    columns = pairs().columns()
    del columns["margin"], columns["r"]
    with pytest.raises(CorruptData, match="lack margin, r"):
        Pairs.from_columns(columns)


def test_a_token_that_speaks_against_a_pair_adds_to_its_excess() -> None:
    """Under a token null below zero, the pair shares more than its whole r."""
    found = pairs(r=np.array([0.4]), token_null=np.array([-0.2]))
    np.testing.assert_allclose(found.excess, [0.6])
    assert found.row(0)["excess"] == pytest.approx(0.6)
