"""What a notebook shows: everything escaped, nothing endless."""

import math
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from tests.service import made

from isogloss import Client
from isogloss.service.values.html import bar, card, passages, table, words
from isogloss.service.values.results import (
    FeatureContext,
    FeatureInfo,
    Hits,
    JobInfo,
    MatchInfo,
    Skipped,
)

HOSTILE = '<script>alert("x")</script>&'


class Balanced(HTMLParser):
    """Refuses tags that are not closed, and gathers the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(text: str) -> Balanced:
    found = Balanced()
    found.feed(text)
    found.close()
    assert found.open == []
    assert "script" not in found.tags
    return found


def job(state: str, step: int = 0) -> JobInfo:
    return JobInfo(
        name="train-1",
        kind="train",
        state=state,
        step=step,
        total_steps=80,
        metrics={"fvu": 0.25},
        attempt=1,
        created=0.0,
        updated=0.0,
        made="",
        error=("JOB_FAILED", HOSTILE) if state == "FAILED" else None,
    )


def values() -> Iterator[object]:
    place = FeatureContext(document=1, before=HOSTILE, peak=HOSTILE, after="", value=1.5)
    yield FeatureInfo(
        dictionary=HOSTILE,
        feature=7,
        probe="p",
        fires=3,
        density=0.1,
        max_activation=2.0,
        contexts=(place, place),
    )
    yield Hits([], skipped=[Skipped(dictionary="d", why=HOSTILE)])
    yield MatchInfo(
        id=HOSTILE, uid="u", etag="e", a="a", b="b", probe="p", pairs=4, created=0.0, text=HOSTILE
    )
    yield job("FAILED")


@pytest.mark.parametrize("value", list(values()), ids=lambda value: type(value).__name__)
def test_text_of_models_is_shown_and_never_markup(value: object) -> None:
    shown = parsed(getattr(value, "_repr_html_")())  # noqa: B009 - as a notebook does
    assert HOSTILE in shown.text


def test_what_a_store_holds_is_shown_of_the_client_and_of_each_value(
    reading_client: Client,
) -> None:
    client = reading_client
    small = client.dictionary_info("small")
    hits = client.nearest(small.feature(14))
    for value, wanted in (
        (client, ("small-docs", "large-docs", "small", "large")),
        (client.recording("small-docs"), ("made/up-small-docs", "layer.1", "9,600")),
        (small, ("layer.1 of small-docs", "topk, sae", "0.25")),
        (client.feature(small.feature(3)), ("Feature 3 of small", made.PROBE)),
        (hits, ("large", "given token", f"{hits[0].r:.3g}")),
    ):
        shown = parsed(getattr(value, "_repr_html_")()).text  # noqa: B009 - as a notebook does
        for text in wanted:
            assert text in shown, (text, shown)
    assert "cosine" not in parsed(hits._repr_html_()).text


def test_a_job_shows_a_bar_until_it_is_done() -> None:
    assert 'value="0.2500"' in job("RUNNING", 20)._repr_html_()
    assert "<progress" not in job("SUCCEEDED", 80)._repr_html_()
    assert bar(1, 0) == "<progress></progress>"
    assert bar(1, 4) == '<progress value="0.2500" max="1"></progress> 25 %'
    assert bar(9, 3) == '<progress value="1.0000" max="1"></progress> 100 %'


def test_a_table_shows_ten_rows_and_counts_the_others() -> None:
    shown = parsed(table(("name", "rows"), [(f"n{n}", n) for n in range(25)]))
    assert "n9" in shown.text
    assert "n10" not in shown.text
    assert "and 15 more" in shown.text
    assert parsed(table(("a",), [], "nothing")).text == "nothing"


def test_what_is_unknown_is_left_out_of_a_card() -> None:
    shown = parsed(card("t", {"a": math.nan, "b": None, "c": "", "d": 0.5})).text
    assert shown == "td0.5"
    assert passages([]) == ""
    assert [words(value) for value in (True, 1234, 12345.6, "x")] == ["yes", "1,234", "12,346", "x"]


def test_an_id_is_never_broken_and_sentences_are() -> None:
    shown = table(("dictionary", "why"), [("run-2-64-3be76d1f", "it is of another model")])
    assert 'nowrap">run-2-64-3be76d1f<' in shown
    assert 'nowrap">it is' not in shown
    assert 'nowrap;opacity:.65">run-2-64-3be76d1f<' in card("Left out", {"run-2-64-3be76d1f": 1})
