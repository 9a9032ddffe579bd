"""What else a match measured stands on the page beside what it is where nothing is shared."""

from typing import cast

import pytest
from tests.service.pages import report_example

from isogloss.service.pages.other_measures import margins_of, measures_of
from isogloss.service.pages.report import render_report
from isogloss.service.pages.report_data import Node
from isogloss.service.pages.report_view import sides_of

ONE_TO_ONE = {
    "pairs": 2_100,
    "mutual": 1_400,
    "mean_r": 0.4,
    "thresholds": [0.3, 0.5, 0.7],
    "shared": [900, 400, 120],
    "decoders": {"value": 0.5474, "null": 0.1802, "null_spread": 0.0011},
}
SPLIT = {
    "most": 3,
    "thresholds": [0.3, 0.5, 0.7],
    "together": [1_500, 700, 90],
    "single": [1_200, 510, 60],
    "nulls": {"none": [9, 2, 0], "token": [300, 81, 3]},
}


@pytest.fixture
def report() -> dict[str, object]:
    return report_example.report()


def data_of(report: dict[str, object]) -> dict[str, object]:
    return cast("dict[str, object]", report["data"])


def test_means_of_best_partners_stand_beside_their_nulls(report: dict[str, object]) -> None:
    node = Node(report)
    first, second = measures_of(node.node("data"), sides_of(node))
    assert first.value == "0.41, 0.39, 0.38"
    assert second.value == "0.43, 0.40, 0.39"
    assert first.beside == "free shuffle 0.14, 0.07, 0.07; token kept 0.31, 0.15, 0.15"


def test_assignments_and_subsets_are_said_where_they_were_asked_for(
    report: dict[str, object],
) -> None:
    data_of(report).update({"one_to_one": ONE_TO_ONE, "subsets": {"merged": SPLIT}})
    node = Node(report)
    sides = sides_of(node)
    *_, assigned, decoders, merged = measures_of(node.node("data"), sides)
    assert assigned.value == (
        "2,100 pairs, 1,400 of them mutual; 900 with r ≥ 0.3, 400 with r ≥ 0.5, 120 with r ≥ 0.7"
    )
    assert assigned.beside == ""
    assert (decoders.value, decoders.beside) == ("0.547", "one decoder rotated 0.180 (sd 0.001)")
    assert merged.name == (
        f"features of {sides[1].name} that reach r ≥ 0.5 by up to 3 features of {sides[0].name} "
        "together"
    )
    assert (merged.value, merged.beside) == (
        "700; by one alone 510",
        "free shuffle 2; token kept 81",
    )
    page = render_report([report])
    assert "0.547" in page
    assert "one decoder rotated 0.180" in page


def test_dictionaries_of_other_widths_have_no_matched_cosine(report: dict[str, object]) -> None:
    data_of(report)["one_to_one"] = {**ONE_TO_ONE, "decoders": None}
    node = Node(report)
    assert "decoder" not in measures_of(node.node("data"), sides_of(node))[-1].name


def test_margins_without_a_pair_are_left_out(report: dict[str, object]) -> None:
    found = margins_of(Node(report).node("data"))
    assert [(one.label, one.pairs, one.again, one.replicates) for one in found] == [
        ("0 to 0.01", 12, 5, 4),
        ("0.1 to 0.5", 40, 31, 30),
        ("0.5 or more", 1_030, 1_001, 987),
    ]


def test_data_of_earlier_releases_have_none_of_it(report: dict[str, object]) -> None:
    for name in ("margins", "mean_best"):
        del data_of(report)[name]
    node = Node(report)
    assert measures_of(node.node("data"), sides_of(node)) == ()
    assert margins_of(node.node("data")) == ()
    assert "Other measures" not in render_report([report])
