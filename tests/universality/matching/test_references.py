"""Ceilings and floors stand beside a match, and only where their numbers mean the same."""

from dataclasses import replace
from typing import Any

import pytest

from isogloss.errors import InvalidInput
from isogloss.universality.matching.references import Reference, check_references
from isogloss.universality.matching.report_data import report_data
from isogloss.universality.matching.result import Match
from isogloss.universality.matching.summary import summary_text


@pytest.fixture
def floor(found: Match) -> Reference:
    """The match itself with another second dictionary, and only its weakest pairs."""
    few = found.pairs.take((found.pairs.r < 0.85).nonzero()[0])
    other = replace(found, b=replace(found.b, dictionary="rotated"), pairs=few)
    return Reference(role="floor", name="low", what="left x rotated (rotated)", match=other)


def test_the_numbers_of_a_floor_stand_beside_those_of_the_match(
    found: Match, floor: Reference
) -> None:
    data = report_data(found, references=[floor])
    references = data["references"]
    assert isinstance(references, list)
    (beside,) = references
    assert (beside["role"], beside["match"], beside["b"]) == ("floor", "low", "rotated")
    assert beside["counts"] == report_data(floor.match)["counts"]
    assert beside["counts"] != data["counts"]
    text = summary_text(found, [floor])
    (row,) = [line for line in text.splitlines() if "floor: left x rotated" in line]
    good = floor.match.pairs.replicates_is("yes") & (floor.match.pairs.r >= 0.5)
    assert str(int(good.sum())) in row.split()
    starts = ("  replicate with", "  this match", "  floor:")
    table = [line for line in text.splitlines() if line.startswith(starts)]
    assert len(table) == 3
    assert len({len(line) for line in table}) == 1, "columns stand under one another"
    assert "No ceiling and no floor" not in text
    assert "No ceiling and no floor" in summary_text(found)
    assert report_data(found)["references"] == []


def test_mean_best_is_weighted_by_firings_and_mass_and_stands_beside_its_null(
    found: Match,
) -> None:
    side = found.a
    best = side.best.astype(float)
    plain, by_fires, by_mass = side.mean_best
    assert plain == pytest.approx(best.mean())
    assert by_fires == pytest.approx((best * side.fires).sum() / side.fires.sum())
    assert by_mass == pytest.approx((best * side.mass).sum() / side.mass.sum())
    assert len({round(value, 6) for value in (plain, by_fires, by_mass)}) == 3
    data = report_data(found)["mean_best"]
    assert isinstance(data, dict)
    assert data["a"]["by_mass"] == pytest.approx(by_mass)
    assert data["nulls"]["none"]["a"]["features"] < data["a"]["features"]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("on", {"probe": "other"}, "is on probe 'other'"),
        ("settings", {"min_fires": 7}, "has min_fires 7"),
        ("settings", {"surface": "folded"}, "surface folded"),
        ("a", {"dictionary": "x"}, "is of rotated and x"),
        ("b", {"dictionary": "right"}, "wanted exactly one"),
    ],
)
def test_a_reference_of_another_ruler_is_refused(
    found: Match, floor: Reference, part: str, change: dict[str, Any], message: str
) -> None:
    changed = replace(getattr(floor.match, part), **change)
    other: Match = replace(floor.match, **{part: changed})
    with pytest.raises(InvalidInput, match=message):
        check_references(found, [replace(floor, match=other)])
    same = replace(floor.match, settings=replace(floor.match.settings, seed=9, draws=1))
    check_references(found, [replace(floor, match=same)])
