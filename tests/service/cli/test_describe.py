"""What is said of a dictionary's start."""

import pytest

from isogloss.service.cli.describe import _start


@pytest.mark.parametrize(
    ("init", "wanted"),
    [
        ({"dictionary": "earlier"}, "earlier 0.250"),
        ({"directions": "data rows"}, "data rows 0.250"),
        ({}, "random 0.250"),
        (None, "random 0.250"),
    ],
)
def test_a_start_is_a_dictionary_or_directions_or_random(init: object, wanted: str) -> None:
    assert _start({"config": {"init": init}, "init_cosine": 0.25}) == wanted


def test_of_a_start_that_was_not_compared_nothing_is_said() -> None:
    assert _start({"config": {"init": {"dictionary": "earlier"}}}) == "–"
