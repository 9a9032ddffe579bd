import pytest

from isogloss.dictionaries import DEFAULT_KIND, Kind, kind_names, kind_schema, kind_summary
from isogloss.dictionaries.kinds import load
from isogloss.dictionaries.kinds.load import kind_class
from isogloss.dictionaries.kinds.table import KINDS
from isogloss.errors import InvalidInput


def test_every_row_of_the_table_is_a_kind_with_a_schema():
    assert DEFAULT_KIND in kind_names()
    for name in KINDS.built_in:
        assert issubclass(kind_class(name), Kind)
        assert kind_summary(name).endswith(".")
        assert "features" in kind_schema(name)["required"]  # pyright: ignore[reportOperatorIssue]  # a JSON list


def test_every_kind_saves_the_two_tensors_that_decode():
    for name in KINDS.built_in:
        saved = kind_class(name).saved
        assert saved["decoder"] == ("features", "target_width")
        assert saved["decoder_bias"] == ("target_width",)
        assert {size for sizes in saved.values() for size in sizes} <= {
            "features",
            "width",
            "target_width",
        }


def test_an_unknown_kind_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(InvalidInput, match=r"no kind 'no_such'.*topk"):
        kind_class("no_such")


def test_what_is_no_kind_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "KINDS", type(KINDS)(noun="", group="-", built_in={"x": "os:sep"}))
    with pytest.raises(InvalidInput, match="kind 'x' is '/'; wanted a subclass"):
        kind_class("x")
