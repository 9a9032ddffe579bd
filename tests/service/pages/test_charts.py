"""Axes, curves and the ruler of a pair."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from isogloss.service.pages.charts import (
    Line,
    Point,
    count_axis,
    line_chart,
    linear_axis,
    ruler,
    scatter_chart,
)


def test_axes_cover_their_values_with_round_ticks() -> None:
    axis = linear_axis("r", -0.13, 0.97)
    assert axis.ticks == (-0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
    assert axis.place(-0.25) == 0
    assert axis.place(1.0) == 1
    counts = count_axis("pairs", 1204)
    assert [counts.text(tick) for tick in counts.ticks] == [
        "0",
        "1",
        "10",
        "100",
        "1,000",
        "10,000",
    ]
    assert counts.place(0) == 0
    assert 0 < counts.place(1) < counts.place(10) < 1


def test_a_ruler_leaves_out_what_is_unknown() -> None:
    whole = ruler(0.8, 0.7, 0.9, 0.2, 0.5, "r 0.80")
    assert ("diamond" in whole, "hollow" in whole) == (True, True)
    bare = ruler(0.8, 0.7, 0.9, None, None, 'a "quoted" <title>')
    assert ("diamond" in bare, "hollow" in bare) == (False, False)
    assert "<title>a &quot;quoted&quot; &lt;title&gt;</title>" in bare


DRAWN = Path(__file__).with_name("drawn.svg")
"""Three charts as they are drawn. After a wanted change look at them in a browser, then replace."""


def test_charts_are_drawn_as_they_were_looked_at() -> None:
    r, pairs = linear_axis("r", 0.0, 1.0), count_axis("pairs", 120)
    curve = Line(name="shared", style="shared", x=[0.0, 0.5, 1.0], y=[120, 30, 0], is_filled=True)
    guide = Line(name="equal", style="guide", x=(0.0, 1.0), y=(0.0, 1.0))
    point = Point(x=0.25, y=0.75, style="beyond", title="1 and 2")
    drawn = [
        line_chart("curves", r, pairs, [curve], mark=True),
        scatter_chart("points", r, r, [point], legend=[("far", "beyond")], lines=[guide]),
        ruler(0.8, 0.7, 0.9, 0.2, 0.5, "r 0.80"),
    ]
    assert [text + "\n" for text in drawn] == DRAWN.read_text().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("high", "ticks"),
    [
        (5.0, (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)),
        (8.0, (0.0, 2.0, 4.0, 6.0, 8.0)),
        (11.0, (0.0, 2.5, 5.0, 7.5, 10.0, 12.5)),
        (20.0, (0.0, 5.0, 10.0, 15.0, 20.0)),
        (40.0, (0.0, 10.0, 20.0, 30.0, 40.0)),
    ],
)
def test_ticks_are_round_and_reach_beyond_the_values(high: float, ticks: tuple[float]) -> None:
    assert linear_axis("x", 0.0, high).ticks == ticks


def test_an_axis_of_counts_ends_at_a_power_of_ten_above_its_values() -> None:
    assert [count_axis("n", highest).high for highest in (3, 9, 10, 95, 96, 1000)] == [
        10.0, 10.0, 100.0, 100.0, 1000.0, 10000.0,
    ]  # fmt: skip


def test_an_axis_keeps_what_lies_beyond_its_ends_on_its_ends() -> None:
    axis = linear_axis("r", 0.0, 1.0)
    assert [axis.place(value) for value in (-3.0, 0.25, 1.0, 7.0)] == [0.0, 0.25, 1.0, 1.0]


def test_a_curve_is_drawn_through_its_values_and_named_in_the_legend() -> None:
    axis = linear_axis("r", 0.0, 1.0)
    line = Line(name="a & b", style="shared", x=[0.0, 1.0], y=[0.0, 1.0], is_filled=True)
    chart = line_chart("title", axis, axis, [line], mark=True)
    assert '<path class="line shared" d="M70.0 352.0L586.0 60.0"/>' in chart
    assert '<path class="area shared" d="M70.0 352.0L586.0 60.0L586.0 352L70.0 352Z"/>' in chart
    assert "a &amp; b" in chart
    assert 'data-left="70" data-span="516" data-low="0" data-high="1"' in chart
    bare = line_chart("title", axis, axis, [replace(line, x=[], y=[], is_filled=False)])
    assert "path" not in bare
    assert "marker" not in bare


def test_a_long_legend_goes_on_in_a_second_line() -> None:
    axis = linear_axis("r", 0.0, 1.0)
    names = [f"a curve of some length {number}" for number in range(3)]
    lines = [Line(name=name, style="a", x=[0.0], y=[0.0]) for name in names]
    keys = re.findall(r'class="key" x="(\d+)" y="(\d+)"', line_chart("title", axis, axis, lines))
    assert keys == [("34", "17"), ("265", "17"), ("34", "35")]


def test_a_point_says_what_it_is_and_guides_without_a_name_are_not_in_the_legend() -> None:
    axis = linear_axis("r", 0.0, 1.0)
    point = Point(x=0.5, y=1.0, style="beyond", title="<1> and 2")
    guide = Line(name="", style="guide", x=(0.0, 1.0), y=(0.0, 1.0))
    chart = scatter_chart("t", axis, axis, [point], legend=[("far", "beyond")], lines=[guide])
    assert 'cx="328.0" cy="60.0" r="3.2"><title>&lt;1&gt; and 2</title>' in chart
    assert chart.count('class="key"') == 1
