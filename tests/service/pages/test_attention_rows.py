"""Attention from one token, drawn for the report."""

import html
import re
from typing import cast

import pytest
from tests.service.pages import report_example

from isogloss.errors import CorruptData
from isogloss.service.pages.attention_rows import attention_rows
from isogloss.service.pages.report import render_report
from isogloss.service.pages.report_data import Node

FOUND = {
    "tokens": ["<b>", "of", "it"],
    "at": 2,
    "heads": [
        {"name": "3.0", "shares": [0.9, 0.1, 0.0]},
        {"name": "3.1", "shares": [0.0, 0.004, 1.0]},
    ],
}


def test_each_share_that_can_be_seen_is_drawn_and_says_what_it_is():
    drawn = attention_rows(Node(FOUND), ("<b>", "of", "it"))
    said = [html.unescape(one) for one in re.findall("<title>(.*?)</title>", drawn)]
    assert said == [
        "head 3.0 looks at <b>: 90.0%",
        "head 3.0 looks at of: 10.0%",
        "head 3.1 looks at it: 100.0%",
    ]
    assert "<b>" not in drawn
    assert re.findall(r'class="at".*?>(\w+)</text>', drawn) == ["it"]


@pytest.mark.parametrize(
    "change",
    [
        {"heads": 7},
        {"at": "x"},
        {"heads": [{"name": "3.0"}]},
        {"heads": [{"name": 3, "shares": []}]},
    ],
)
def test_numbers_of_another_form_are_refused(change: dict[str, object]):
    with pytest.raises(CorruptData, match="wanted"):
        attention_rows(Node({**FOUND, **change}), ("a", "b", "c"))


def test_a_report_draws_it_below_the_place_and_no_token_becomes_markup():
    report = report_example.report()
    places = cast("dict[str, list[dict[str, object]]]", report["contexts_a"])
    feature = next(iter(places))
    hostile = {**FOUND, "tokens": [report_example.HOSTILE, "of", "it"]}
    places[feature][0]["attention"] = hostile
    page = render_report([report])
    assert page.count('<svg class="attention"') >= 1
    assert "what heads look at from here" in page
    assert '<script>alert("x")' not in page
    assert "\u202e" not in page
    assert "what heads look at" not in render_report([report_example.report()])
