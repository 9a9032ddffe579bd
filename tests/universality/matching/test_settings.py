"""Settings are checked where they are made, and survive JSON."""

import json
from typing import Any

import pytest

from isogloss.errors import (
    InvalidInput,
)
from isogloss.universality.matching.settings import MatchSettings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draws": 0}, "draws 0 must be at least 1"),
        ({"min_fires": 0}, "min_fires 0"),
        ({"min_r": 1.5}, r"min_r 1.5 must lie in \[0, 1\]"),
        ({"replicates_low": 1.5}, "replicates_low 1.5"),
        ({"confidence": 1.0}, "confidence 1.0"),
        ({"confidence": 0.0}, "confidence 0.0"),
        ({"seed": 2**63}, "seed 9223372036854775808"),
        ({"max_draws": 10_001}, "max_draws 10001 must be at least 1, at most 10000"),
        ({"surface": "lower"}, "surface 'lower' must be one of exact, folded"),
        ({"max_draws": 2}, "draws 3 must be at most max_draws 2"),
        ({"keys": ("token",)}, "include none"),
        ({"keys": ("none", "colour")}, "among none, token"),
        ({"keys": ("none", "none")}, "different"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_senseless_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        MatchSettings(**change)


def test_settings_at_their_bounds_are_taken() -> None:
    least = MatchSettings(draws=1, min_fires=1, min_r=0.0, replicates_low=0.0, seed=0)
    most = MatchSettings(draws=10_000, max_draws=10_000, min_r=1.0, seed=2**63 - 1)
    assert (least.draws, most.max_draws, most.seed) == (1, 10_000, 2**63 - 1)


def test_settings_survive_json_and_numbers_that_became_floats() -> None:
    settings = MatchSettings(
        draws=4, keys=("none", "document"), min_r=0.2, surface="folded", replicates_low=0.2
    )
    assert MatchSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert MatchSettings.from_dict({"draws": 3.0, "min_r": 0}) == MatchSettings(draws=3, min_r=0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"drawz": 1}, "unknown match setting drawz; known: min_fires"),
        ({"replicated_r": 0.3}, "replicated_r is gone; in its place is replicates_low"),
        ({"surface": 1}, "surface 1 must be str"),
        ({"draws": 1.5}, "draws 1.5 must be int"),
        ({"draws": True}, "draws True must be int"),
        ({"keys": "none"}, "keys 'none' must be a list"),
        ({"min_r": "0.1"}, "min_r '0.1' must be float"),
    ],
)
def test_settings_of_unknown_name_or_type_are_refused(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        MatchSettings.from_dict(values)
