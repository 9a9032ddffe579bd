"""The charts of a match, from report data."""

import re
from typing import cast

import pytest
from tests.service.pages import report_example

from isogloss.service.pages.figures import Figures, figures_of
from isogloss.service.pages.report_data import Node
from isogloss.service.pages.report_view import sides_of


def figures(report: dict[str, object]) -> Figures:
    node = Node(report)
    return figures_of(node, node.node("data"), sides_of(node))


@pytest.fixture(scope="module")
def drawn() -> Figures:
    return figures(report_example.report())


def test_bands_say_how_often_their_features_fire_and_how_many_are_shared(drawn: Figures) -> None:
    labels = [band.label for band in drawn.bands]
    assert labels == ["20 to 49", "50 to 99", "100 to 499", "500 to 1,999", "2,000 or more"]
    assert [band.features for band in drawn.bands] == [801, 760, 1204, 520, 117]
    assert [round(band.percent) for band in drawn.bands] == [18, 24, 38, 52, 61]


def test_points_are_coloured_by_their_label(drawn: Figures) -> None:
    report = report_example.report()
    scatter = cast("dict[str, list[object]]", cast("dict[str, object]", report["data"])["scatter"])
    columns = [scatter[name] for name in ("partial_token", "beyond_token", "explained_by")]
    rows = list(zip(*columns, strict=True))
    known = [(beyond, by) for given, beyond, by in rows if given is not None]
    styles = re.findall(r'<circle class="dot ([a-z]+)" [^>]*r="3.2"', drawn.scatter)
    assert styles == [
        {"yes": "beyond", "no": "other" if by == "position" else "driven"}.get(str(beyond), "other")
        for beyond, by in known
    ]
    assert drawn.shown == len(rows)


def test_the_script_is_given_the_curves_as_numbers(drawn: Figures) -> None:
    assert set(drawn.data) == {"thresholds", "shared", "beyond", "nulls", "names"}
    shared = cast("tuple[float, ...]", drawn.data["shared"])
    assert len(shared) == len(cast("tuple[float, ...]", drawn.data["thresholds"]))
    assert shared[0] == max(shared)


def test_the_training_chart_is_empty_without_a_curve() -> None:
    report = report_example.report()
    sides = cast("dict[str, dict[str, dict[str, object]]]", report["sides"])
    assert figures(report).training
    for side in sides.values():
        side["provenance"]["curve"] = []
    assert figures(report).training == ""


def test_each_chart_says_what_its_axes_are_and_whose_curve_is_whose(drawn: Figures) -> None:
    charts = {
        "curves": ("correlation r on the report half, at least", "pairs (log scale)", "token kept"),
        "scatter": ("correlation r", "r given the token", "not beyond it", "\N{MINUS SIGN}0"),
        "best": ("best correlation (choose half)", "features", "minilm-l6", "mpnet-base"),
        "density": ("share of segments on which a feature fires", "100 %", "0.01 %", "minilm-l6"),
        "training": ("rows trained on", "variance unexplained", "mpnet-base"),
    }
    for name, texts in charts.items():
        svg = str(getattr(drawn, name))
        assert svg.startswith('<svg class="chart"')
        assert [text for text in texts if text not in svg] == [], name
    assert drawn.curves.count('<path class="line ') == 5, "three nulls, two counts"
    assert drawn.density.count('<path class="line') == 2


def test_without_a_count_the_density_has_axes_from_a_hundredth_of_a_percent_up() -> None:
    report = report_example.report()
    data = cast("dict[str, dict[str, dict[str, object]]]", report["data"])
    for side in "ab":
        data[side]["density"] = {"edges": [], "counts": []}
    ticks = re.findall(r'y="374" text-anchor="middle">([^<]*)<', figures(report).density)
    assert (ticks[0], ticks[-1]) == ("0.01 %", "100 %")


def test_millions_of_rows_are_written_in_millions() -> None:
    report = report_example.report()
    sides = cast("dict[str, dict[str, dict[str, object]]]", report["sides"])
    for side in sides.values():
        side["provenance"]["curve"] = [{"rows": rows, "fvu": 0.5} for rows in (500_000, 5_000_000)]
    ticks = re.findall(r'y="374" text-anchor="middle">([^<]*)<', figures(report).training)
    assert ticks == ["0", "1M", "2M", "3M", "4M", "5M"]


def test_a_chart_of_hardly_any_features_counts_up_to_four() -> None:
    report = report_example.report()
    best = cast("dict[str, dict[str, object]]", report["data"])["best"]
    best |= {"edges": [0.0, 0.5, 1.0], "a": [1, 2], "b": [2, 0], "nulls": {}}
    ticks = re.findall(r'text-anchor="end">([^<]*)<', figures(report).best)
    assert ticks == ["0", "1", "2", "3", "4"]
