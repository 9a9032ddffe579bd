"""What the page says of a match: claim, verdict, names, numbers."""

from typing import cast

import pytest
from tests.service.pages import report_example

from isogloss.service.pages.report import render_report
from isogloss.service.pages.report_data import Node
from isogloss.service.pages.report_view import (
    Answers,
    decimal,
    groups_of,
    headline_of,
    levels_of,
    sides_of,
)

CHANCE = "Hardly more than chance gives."
WORDS = "Much of what is shared is which word stands there."
UNTOLD = "The text is too short to tell what is shared beyond which word stands there."
MORE = "Most of it is more than which word stands there."


def test_the_headline_says_the_numbers_beside_their_nulls() -> None:
    report = report_example.report()
    data = cast("dict[str, object]", report["data"])
    level = cast("list[dict[str, object]]", data["counts"])[0]
    node = Node(report)
    headline = headline_of(node.node("data"), sides_of(node))
    replicates, beyond = (
        cast("dict[str, int]", level[name]) for name in ("replicates", "beyond_token")
    )
    assert headline.claim == (
        f"{replicates['yes']} of 3,120 features that could be compared have a partner that "
        "replicates; of 1 it cannot be told"
    )
    assert headline.verdict == "Much of what is shared is which word stands there."
    _, holds, chance, more = headline.sentences
    assert f"Of the {level['shared']}, {replicates['yes']} replicate" in holds
    assert "the 95 % interval of their correlation (of compressed activations)" in holds
    assert "lies above 0.1. 2 do not" in holds
    assert "and 1 cannot be told" in holds
    assert "13 such pairs when rows are shuffled freely" in chance
    assert "173 when they are shuffled only among rows of the same token" in chance
    assert f"same token {beyond['yes']} still correlate" in more
    assert f"{beyond['no']} do not, {beyond['undecided']} cannot be told" in more
    assert "By chance at most 8.4 of all pairs would pass" in more


@pytest.mark.parametrize(
    ("shared", "beyond", "free", "is_token_driven", "verdict"),
    [
        pytest.param(1, 1, 1.0, False, CHANCE, id="as many as one more draw may give"),
        pytest.param(2, 2, 1.0, False, MORE, id="two are more than chance where it gives one"),
        pytest.param(19, 19, 0.0, False, MORE, id="no number of pairs is too few by itself"),
        pytest.param(20, 20, 20.5, False, CHANCE, id="twenty are few where a draw may give them"),
        pytest.param(30, 15, 0.0, False, MORE, id="half go beyond the token"),
        pytest.param(30, 14, 0.0, False, WORDS, id="less than half do"),
        pytest.param(30, 30, 0.0, True, WORDS, id="the caution says the token drives them"),
        pytest.param(19, 19, 19.0, True, CHANCE, id="chance comes before anything else"),
        pytest.param(41, 10, 0.0, False, UNTOLD, id="a quarter must have been decided"),
        pytest.param(40, 10, 0.0, False, MORE, id="a quarter is enough"),
    ],
)
def test_the_verdict_weighs_the_number_of_pairs_the_null_and_the_token(
    shared: int, beyond: int, free: float, is_token_driven: bool, verdict: str
) -> None:
    report = report_example.report()
    data = cast("dict[str, object]", report["data"])
    level = cast("list[dict[str, object]]", data["counts"])[0]
    no = 0 if shared > 30 else shared - beyond
    answers = {"yes": beyond, "no": no, "undecided": shared - beyond - no}
    level |= {"shared": shared, "beyond_token": answers, "nulls": {"none": 0.0}}
    level["null_highest"] = {"none": free}
    if not is_token_driven:
        data["cautions"] = []
    node = Node(report)
    assert headline_of(node.node("data"), sides_of(node)).verdict == verdict


def test_intervals_and_bars_are_called_by_what_the_settings_asked() -> None:
    report = report_example.report()
    data = cast("dict[str, object]", report["data"])
    settings = cast("dict[str, object]", data["settings"])
    settings |= {"confidence": 0.9, "replicates_low": 0.25}
    node = Node(report)
    _, holds, *_ = headline_of(node.node("data"), sides_of(node)).sentences
    assert "the 90 % interval" in holds
    assert "lies above 0.25" in holds
    names = {
        name
        for group in groups_of(node, node.node("data"))
        for pair in group.first
        for name, _, _ in pair.numbers
    }
    assert "90 % interval" in names
    assert "95 % interval" not in names
    page = render_report([report])
    assert "with a 90 % interval over sources" in page
    assert "compressed activations lies above 0.25" in page


def test_a_match_without_ceiling_and_floor_says_so() -> None:
    page = render_report([report_example.report()])
    assert "No ceiling (one model with itself) and no floor" in page
    assert "Beside a ceiling and a floor" not in page


def test_data_without_the_nulls_interval_is_judged_by_that_of_poisson_counts() -> None:
    report = report_example.report()
    data = cast("dict[str, object]", report["data"])
    level = cast("list[dict[str, object]]", data["counts"])[0]
    for shared, is_chance in ((22, True), (23, False)):
        answers = {"yes": shared, "no": 0, "undecided": 0}
        level |= {"shared": shared, "beyond_token": answers, "nulls": {"none": 13.0}}
        node = Node(report)
        verdict = headline_of(node.node("data"), sides_of(node)).verdict
        assert verdict.startswith(CHANCE) is is_chance, shared


def test_related_models_are_called_no_evidence() -> None:
    node = Node(report_example.report(related=True))
    headline = headline_of(node.node("data"), sides_of(node))
    assert "models are related, so this is not evidence of universality" in headline.verdict
    assert "began from the same weights" not in headline.verdict


def test_a_common_initialisation_is_no_ancestry() -> None:
    report = report_example.report()
    data = cast("dict[str, object]", report["data"])
    data["cautions"] = [{"code": "SHARED_INIT", "message": "equal hashes", "value": 1.0}]
    node = Node(report)
    verdict = headline_of(node.node("data"), sides_of(node)).verdict
    assert "dictionaries began from the same weights" in verdict
    assert "train one from another seed" in verdict
    assert "models are related" not in verdict


def test_no_count_of_a_pair_contradicts_what_is_shown_of_it() -> None:
    report = report_example.report()
    data = cast("dict[str, object]", report["data"])
    examples = cast("dict[str, list[dict[str, object]]]", data["examples"])
    row = examples["beyond_token"][0]
    row |= {"explained_by": "token", "beyond_token": "yes", "cofires": 0, "together": 1}
    row |= {"fires_a": 3}
    node = Node(report)
    first, *others = groups_of(node, node.node("data"))
    assert [group.key for group in (first, *others)][:2] == ["beyond_token", "best"]
    shown = first.first[0]
    assert shown.explained_by == "none"
    assert shown.a.fires.endswith(" segments, 3 of the reporting half")
    together = next(value for name, value, _ in shown.numbers if name == "fire together on")
    assert together == "1 segment, 0 of the reporting half"
    assert 'class="activations"' in shown.a.histogram
    del report["activations_a"], row["together"]  # as data of an earlier release
    node = Node(report)
    shown = groups_of(node, node.node("data"))[0].first[0]
    assert shown.a.fires == "fires on 3 segments of the reporting half"
    assert shown.a.histogram == ""


@pytest.mark.parametrize("loose", [False, True])
def test_a_pair_without_an_interval_says_so_and_nothing_of_its_ends(loose: bool) -> None:
    report = report_example.report()
    data = cast("dict[str, object]", report["data"])
    examples = cast("dict[str, list[dict[str, object]]]", data["examples"])
    examples["beyond_token"][0] |= {"ci_low": None, "ci_high": None, "ci_high_loose": loose}
    node = Node(report)
    shown = groups_of(node, node.node("data"))[0].first[0]
    said = [(value, note) for name, value, note in shown.numbers if name.endswith(" interval")]
    assert said == [("none", "over sources of text")]
    assert "none or more" not in shown.ruler


def test_two_dictionaries_of_one_model_are_told_apart() -> None:
    report = report_example.report(models=("packaged:minilm-l6", "packaged:minilm-l6"))
    sides = cast("dict[str, dict[str, object]]", report["sides"])
    sides["b"]["dictionary"] = "minilm-seed-1"
    a, b = sides_of(Node(report))
    assert (a.name, b.name) == ("minilm-l6-4096", "minilm-seed-1")


@pytest.mark.parametrize(
    ("metrics", "wanted"),
    [
        ({}, "not evaluated on held-out documents"),
        ({"fvu": 0.1, "l0": 32.0}, "explains 90 % of held-out variance with 32 active features"),
        (
            {"fvu": 0.1, "usual_fvu": 0.3, "rows": 100.0, "usual_rows": 90.0},
            "explains 90 % of held-out variance, 70 % of that of usual rows",
        ),
        ({"fvu": 0.1, "usual_fvu": 0.1, "rows": 9.0, "usual_rows": 9.0}, "90 % of held-out var"),
        (
            {"fvu": 0.1, "control_frozen_decoder_fvu": 0.4, "control_frozen_decoder_usual_fvu": 1},
            "; controls: frozen decoder 60 %",
        ),
    ],
)
def test_what_a_dictionary_explains_stands_beside_usual_rows_and_controls(
    metrics: dict[str, float], wanted: str
) -> None:
    report = report_example.report()
    sides = cast("dict[str, dict[str, object]]", report["sides"])
    sides["a"]["metrics"] = metrics
    said = sides_of(Node(report))[0].quality
    assert wanted in said
    assert ("usual" in said) == ("usual" in wanted)


def test_a_correlation_is_written_with_two_places_and_a_real_minus() -> None:
    written = [decimal(value) for value in (0.256, -0.256, -0.001, None)]
    assert written == ["0.26", "\N{MINUS SIGN}0.26", "0.00", "–"]


def test_a_level_counts_the_pairs_beside_their_nulls_and_what_explains_them() -> None:
    report = report_example.report()
    data = cast("dict[str, object]", report["data"])
    given = cast("list[dict[str, object]]", data["counts"])[0]
    given |= {
        "shared": 200,
        "nulls": {"none": 9.96, "token": 1234.4, "document": 0.0},
        "null_errors": {"none": 0.04, "token": 12.3, "document": None},
        "replicates": {"yes": 150, "no": 40, "undecided": 10},
        "beyond_token": {"yes": 60, "no": 120, "undecided": 20},
        "explained_by": {"none": 100, "token": 60, "position": 30, "document": 10},
        "median_partial_token": None,
    }
    level, *others = levels_of(Node(report).node("data"))
    assert len(others) == 2
    assert (level.threshold, level.shared) == (0.3, 200)
    assert level.replicates == Answers(yes=150, no=40, undecided=10)
    assert level.beyond_token == Answers(yes=60, no=120, undecided=20)
    assert level.nulls == (("none", "10"), ("token", "1,234 ± 12"), ("document", "0"))
    assert level.median_partial == "–"
    assert level.explained_by == (
        ("none", 100, 50.0), ("token", 60, 30.0), ("position", 30, 15.0), ("document", 10, 5.0),
    )  # fmt: skip
