import json
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest
from msgspec import Meta

from isogloss.dictionaries.settings import (
    Settings,
    read_settings,
    settings_schema,
    settings_to_dict,
)
from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Example(Settings):
    """Settings of a test."""

    names: ClassVar[tuple[str, ...]] = ("not", "a", "setting")

    features: Annotated[int, Meta(ge=1)]
    """Number of features."""
    rate: Annotated[float, Meta(gt=0, lt=1)] | None = None
    """Peak of the schedule;
    None: a default."""
    prefixes: tuple[int, ...] = ()
    """Sizes of the nested dictionaries."""
    tied: bool = False
    """Whether encoder and decoder are one."""


def test_settings_survive_json():
    made = Example(features=3, rate=0.5, prefixes=(1, 2), tied=True)
    plain = json.loads(json.dumps(settings_to_dict(made)))
    assert plain == settings_to_dict(made)
    assert read_settings(Example, plain, "it") == made


def test_whole_numbers_are_read_from_floats_and_floats_from_whole_numbers():
    read = read_settings(Example, {"features": 32.0, "prefixes": [1.0, 2.0]}, "it")
    assert read == Example(features=32, prefixes=(1, 2))
    assert isinstance(read.features, int)
    assert isinstance(read.prefixes[0], int)
    with pytest.raises(InvalidInput, match="rate is 1"):
        read_settings(Example, {"features": 1, "rate": 1}, "it")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "features is missing; it needs it"),
        ({"features": 3, "lr": 1}, r"unknown settings \['lr'\]; it has \['features', 'rate'"),
        ({"features": 3, "names": []}, "unknown settings"),
        ({"features": "3"}, "features is '3'; expected `int`"),
        ({"features": 0}, "features is 0; expected `int` >= 1"),
        ({"features": 1.5}, r"features is 1\.5"),
        ({"features": None}, "features is None"),
        ({"features": True}, "features is True"),
        ({"features": 3, "rate": float("nan")}, "rate is nan; wanted a finite number"),
        ({"features": 3, "prefixes": [1.5]}, "prefixes is"),
        ({"features": 3, "tied": 1}, "tied is 1"),
        ({"features": 1e300}, "features is"),
    ],
)
def test_what_a_field_does_not_hold_is_refused(values: dict[str, object], message: str):
    with pytest.raises(InvalidInput, match=message):
        read_settings(Example, values, "it")


def test_a_value_out_of_range_is_refused_by_the_constructor_too():
    with pytest.raises(InvalidInput, match="features is 0"):
        Example(features=0)


def test_the_schema_has_types_ranges_defaults_and_docstrings():
    schema = json.loads(json.dumps(settings_schema(Example)))
    assert schema["properties"]["features"] == {
        "type": "integer",
        "minimum": 1,
        "description": "Number of features.",
    }
    assert schema["properties"]["rate"]["default"] is None
    assert schema["properties"]["rate"]["description"] == "Peak of the schedule; None: a default."
    assert set(schema["properties"]) == {"features", "rate", "prefixes", "tied"}
    assert schema["required"] == ["features"]
    assert schema["additionalProperties"] is False
