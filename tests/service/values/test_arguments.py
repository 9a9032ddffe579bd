import math

import numpy as np
import pytest

from isogloss.errors import InvalidInput
from isogloss.service.values.arguments import check_argument, describe_refusal


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
