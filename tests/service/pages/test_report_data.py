"""Reading saved report data: what is there, what is unknown, and where something is wrong."""

from collections.abc import Callable

import pytest

from isogloss.errors import CorruptData
from isogloss.service.pages.report_data import Node

NODE = Node(
    {
        "text": "a",
        "count": 2.6,
        "flag": 1,
        "unknown": None,
        "list": [1, None, "x"],
        "numbers": [1, None, 2.5],
        "runs": [["the", 0.5], ["end", None]],
        "inner": {"a": 1},
        "inners": [{"a": 1}, {"a": 2}],
    }
)


def test_a_field_is_read_as_what_it_is() -> None:
    assert NODE.text("text") == "a"
    assert (NODE.number("count"), NODE.count("count")) == (2.6, 3)
    assert NODE.flag("flag") is True
    assert NODE.numbers("numbers") == (1.0, 0.0, 2.5)
    assert NODE.maybes("numbers") == (1.0, None, 2.5)
    assert NODE.texts("list") == ("1", "None", "x")
    assert NODE.runs("runs") == (("the", 0.5), ("end", 0.0))
    assert NODE.node("inner").names == ("a",)
    assert [inner.count("a") for inner in NODE.nodes("inners")] == [1, 2]


def test_what_is_unknown_is_none_or_the_default_given() -> None:
    assert NODE.maybe("unknown") is None
    assert NODE.maybe("not there") is None
    assert NODE.text("unknown", "default") == "default"
    assert NODE.text("text", "default") == "a"
    assert ("text" in NODE, "unknown" in NODE, "not there" in NODE) == (True, False, False)
    assert [NODE.plain(name) for name in ("unknown", "list", "count")] == [
        "automatic",
        "1 None x",
        "2.6",
    ]


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: NODE.text("count"), r"report\.count is float '2\.6', wanted text"),
        (lambda: NODE.text("unknown"), r"report\.unknown is missing, wanted text"),
        (lambda: NODE.number("unknown"), r"report\.unknown is missing, wanted a number"),
        (lambda: NODE.number("text"), r"report\.text is str 'a', wanted a number"),
        (lambda: NODE.numbers("list"), r"report\.list is str 'x', wanted a number"),
        (lambda: NODE.numbers("text"), r"report\.text is str 'a', wanted a list"),
        (lambda: NODE.node("text"), r"report\.text is str 'a', wanted an object"),
        (lambda: NODE.nodes("list"), r"report\.list\[0\] is int '1', wanted an object"),
        (lambda: NODE.node("inner").text("b"), r"report\.inner\.b is missing"),
        (lambda: NODE.runs("list"), r"report\.list is int '1', wanted \[text, number\]"),
        (lambda: Node({"r": [["a", 1, 2]]}).runs("r"), r"report\.r is list .* wanted \[text"),
        (lambda: Node({"r": [[1, 2]]}).runs("r"), r"report\.r is list .* wanted \[text, number\]"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(read: Callable[[], object], message: str) -> None:
    with pytest.raises(CorruptData, match=message):
        read()
