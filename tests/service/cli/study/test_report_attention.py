"""What heads look at where features fire, in a report."""

from collections.abc import Mapping
from typing import cast

import pytest
from tests.service.pages import report_example

from isogloss.errors import InvalidInput
from isogloss.models import Head, LoadedModel, attention_patterns, load_model
from isogloss.service.cli.study.report_attention import with_attention
from isogloss.service.pages.report import render_report

Places = Mapping[str, list[dict[str, object]]]


@pytest.fixture(scope="module")
def loaded(gpt2: str) -> LoadedModel:
    return load_model(gpt2)


def details(name: str, site: str = "h.1") -> dict[str, object]:
    report = report_example.report(models=(name, "another/model"))
    sides = cast("dict[str, dict[str, object]]", report["sides"])
    sides["a"]["site"] = site
    first, second, *_ = cast("Places", report["contexts_a"])
    report["contexts_a"] = {
        first: [place("each call ", "resumes", " where"), place("it ", "stopped", "")],
        second: [place("", "keys", " stay")],
    }
    return report


def place(before: str, peak: str, after: str) -> dict[str, object]:
    pieces = [[before, 0.0], [peak, 2.0], [after, 0.0]]
    return {
        "value": 2.0, "before": before, "peak": peak, "after": after, "pieces": pieces,
        "cut": [False, True],
    }  # fmt: skip


def test_the_first_place_of_each_feature_of_that_model_gets_what_heads_look_at(
    loaded: LoadedModel,
) -> None:
    report = details(loaded.name)
    (found,) = with_attention([report], loaded, None)
    before, after = (cast("Places", one["contexts_a"]) for one in (report, found))
    assert found["contexts_b"] == report["contexts_b"]
    for feature, places in after.items():
        first, *others = places
        assert others == before[feature][1:]
        looked = cast("dict[str, list[dict[str, list[float]]]]", first["attention"])
        assert [head["name"] for head in looked["heads"]] == ["1.0", "1.1"]  # of the site's layer
        text = "".join(str(first[name]) for name in ("before", "peak", "after"))
        patterns = attention_patterns(loaded, text, [Head(layer=1, head=0)])
        at = cast("int", looked["at"])
        assert "".join(patterns.tokens[: at + 1]).endswith(str(first["peak"]))
        shares = looked["heads"][0]["shares"]
        assert shares == pytest.approx(patterns.values[0, at, : len(shares)].tolist(), abs=1e-4)
        assert sum(shares) == pytest.approx(1, abs=1e-2)
        assert len(looked["tokens"]) == at + 1  # of a causal model nothing behind it is seen
    assert render_report([found]).count('<svg class="attention"') >= len(after)


def test_heads_may_be_chosen(loaded: LoadedModel) -> None:
    (found,) = with_attention([details(loaded.name, "wte")], loaded, [Head(layer=0, head=1)])
    place = next(iter(cast("Places", found["contexts_a"]).values()))[0]
    looked = cast("dict[str, list[dict[str, str]]]", place["attention"])
    assert [head["name"] for head in looked["heads"]] == ["0.1"]


def test_a_place_without_text_stays_as_it_is(loaded: LoadedModel) -> None:
    report = details(loaded.name)
    places = cast("Places", report["contexts_a"])
    feature = next(iter(places))
    places[feature][0].update(before="", peak="", after="")
    (found,) = with_attention([report], loaded, None)
    assert "attention" not in cast("Places", found["contexts_a"])[feature][0]


def test_another_model_and_a_site_in_no_layer_are_refused(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidInput, match="the matches are of some/model, another/model, not of"):
        with_attention([details("some/model")], loaded, None)
    with pytest.raises(InvalidInput, match="lies in no layer"):
        with_attention([details(loaded.name, "wte")], loaded, None)
    with pytest.raises(InvalidInput, match="heads 0 to 1"):
        with_attention([details(loaded.name)], loaded, [Head(layer=0, head=2)])
