import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import InvalidInput
from isogloss.service.values.arguments import (
    check_argument,
    check_flag,
    check_function,
    check_number,
    check_one_of,
    check_path,
    check_text,
    check_whole,
    describe_refusal,
    found,
)


@pytest.mark.parametrize(
    "value",
    [
        *("plain", "é\U0001f600", "", None, True, 0, -(1 << 63), (1 << 64) - 1, 1.5),
        *([1, "a"], {"a": {"b": [1.0]}}, np.array([np.nan]), frozenset({"a"})),
    ],
)
def test_what_a_message_can_hold_is_let_through(value: object) -> None:
    check_argument("x", value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\ud800b", "x: text has a lone surrogate at 1"),
        (1 << 64, "x is a whole number of 65 bits, wanted at most 64"),
        (-(1 << 63) - 1, "wanted at most 64"),
        (math.nan, "x is nan, wanted a finite number"),
        ([1, -math.inf], "an item of x is -inf"),
        ({"k": [math.inf]}, "an item of x['k'] is inf"),
        ({"\ud800": 1}, "a key of x: text has a lone surrogate"),
    ],
)
def test_what_no_message_can_hold_is_named(value: object, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_argument("x", value)
    assert said in str(caught.value)
    str(caught.value).encode()


def test_a_refused_value_is_described_with_a_remedy() -> None:
    assert "give whole numbers" in describe_refusal(OverflowError("too large"))


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (partial(check_text, "it", example="x"), ["", "a"], [3, None, b"a"]),
        (partial(check_whole, "it", least=1), [1, np.int64(2)], [0, True, 1.5, "1", np.ones(2)]),
        (partial(check_whole, "it", least=None), [-1, 0], [1.5, "x", False]),
        (partial(check_number, "it"), [1, -0.5, math.inf], [True, "1", None, math.nan]),
        (partial(check_one_of, "it", choices=(True, "a", None)), [True, "a", None], [1, "b"]),
        (partial(check_flag, "it"), [True, False], [1, 0, None, "x"]),
        (partial(check_path, "it"), [None, "a", Path("a")], [3, b"a"]),
        (partial(check_function, "it"), [None, print], ["x", 3]),
    ],
)
def test_what_is_wrong_is_named_with_its_type_and_what_is_wanted(
    check: Callable[[object], None], good: list[object], bad: list[object]
) -> None:
    for value in good:
        check(value)
    for value in bad:
        with pytest.raises(InvalidInput, match=r"it is .*(wanted|must be)"):
            check(value)


def test_a_long_value_is_cut() -> None:
    assert found("x" * 500) == f"'{'x' * 56}... (str)"
