"""Of planted pairs and impostors every answer is known, and matching gives it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isogloss.universality.matching.match import match
from isogloss.universality.matching.pairs import Pairs
from isogloss.universality.matching.result import Match
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.nulls.labels import NO, YES
from isogloss.universality.testing.ground_truth import (
    KINDS,
    MEANS,
    GroundTruth,
    ground_truth,
    ground_truth_rates,
)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    return ground_truth(tmp_path_factory.mktemp("truth"), seed=4)


@pytest.fixture(scope="module")
def found(truth: GroundTruth) -> Match:
    settings = MatchSettings(keys=("none",), draws=1, max_draws=1)
    return match(truth.a, truth.b, truth.probe, settings=settings)


def test_planted_pairs_are_found_and_impostors_are_not_taken_for_them(
    truth: GroundTruth, found: Match
) -> None:
    answers = truth.judge(found)
    assert list(answers) == list(KINDS)
    assert {of for _, of in answers.values()} == {40}
    assert answers["planted"][0] == 40
    assert answers["split"][0] >= 38
    for kind in ("token", "case", "position", "topic", "private"):
        assert answers[kind][0] >= 39, kind
    assert answers["token at position"][0] >= 37
    assert answers["merged"][0] >= 38


def test_a_wrong_label_is_a_wrong_answer(truth: GroundTruth, found: Match) -> None:
    """Were all pairs said to be beyond their token, every matched impostor would be wrong."""

    def changed(**columns: object) -> Match:
        whole = {**found.pairs.columns(), **columns}
        pairs = Pairs.from_columns(whole)  # pyright: ignore[reportArgumentType]
        return replace(found, pairs=pairs)

    every = np.full(len(found.pairs), YES)
    answers = truth.judge(changed(beyond_token=every, replicates=every))
    assert answers["planted"][0] == 40
    for kind in ("token", "case"):
        assert answers[kind][0] < 20, kind
    answers = truth.judge(changed(beyond_token=np.full(len(found.pairs), NO)))
    assert answers["planted"][0] == answers["split"][0] == 0
    assert answers["case"][0] == 40


def test_rates_add_up_over_seeds_and_say_what_is_right() -> None:
    found = ground_truth_rates((0, 1), documents=24)
    assert list(found) == list(KINDS)
    assert {kind: means for kind, (_, _, means) in found.items()} == MEANS
    assert {of for _, of, _ in found.values()} == {80}
    assert all(0 <= right <= of for right, of, _ in found.values())
    assert found["private"][0] == 80


def test_equal_seeds_give_equal_dictionaries(truth: GroundTruth, tmp_path: Path) -> None:
    again = ground_truth(tmp_path, seed=4)
    np.testing.assert_array_equal(again.partner, truth.partner)
    np.testing.assert_array_equal(again.a.moments.total, truth.a.moments.total)
    np.testing.assert_array_equal(again.probe.stratum_token, truth.probe.stratum_token)
