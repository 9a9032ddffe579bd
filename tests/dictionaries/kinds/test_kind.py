from dataclasses import dataclass

import pytest
from tests.dictionaries.toy_kind.toy_kind import ReluL1

from isogloss.dictionaries import Kind
from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Odd(ReluL1):
    """Wants an odd number of features."""

    def check(self) -> None:
        if self.features % 2 == 0:
            raise InvalidInput(f"features is {self.features}; wanted an odd number")


def test_types_are_checked_before_what_settings_mean_to_each_other():
    assert Odd(features=3).features == 3
    with pytest.raises(InvalidInput, match="wanted an odd number"):
        Odd(features=4)
    with pytest.raises(InvalidInput, match="features is 0; expected"):
        Odd(features=0)


def test_a_kind_that_lacks_a_method_cannot_be_made():
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Half(Kind):
        """Starts, and that is all."""

    with pytest.raises(TypeError, match="abstract"):
        Half(features=3)  # pyright: ignore[reportAbstractUsage]  # that is what is tested
