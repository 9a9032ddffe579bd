"""Limits of calls."""

from dataclasses import fields
from math import nan

import pytest

from isogloss.errors import InvalidInput
from isogloss.service.server.call_limits import CallLimits


@pytest.mark.parametrize("value", [0, -1, nan])
@pytest.mark.parametrize("name", [field.name for field in fields(CallLimits)])
def test_limits_that_would_let_nothing_through_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is {value}, wanted more than 0"):
        CallLimits(**{name: value})  # pyright: ignore[reportArgumentType] - of no field's type
