"""Fields of JSON documents are read with their type, or named."""

from collections.abc import Callable, Mapping

import pytest

from isogloss.errors import InvalidInput, UnsupportedVersion
from isogloss.store.schema.json_fields import (
    check_version,
    get_count,
    get_items,
    get_mapping,
    get_text,
)

DOCUMENT: Mapping[str, object] = {
    "text": "x",
    "count": 3,
    "mapping": {"a": 1},
    "items": [1],
    "yes": True,
    "negative": -1,
    "fraction": 1.5,
    "none": None,
}


@pytest.mark.parametrize(
    ("get", "name"),
    [(get_text, "text"), (get_count, "count"), (get_mapping, "mapping"), (get_items, "items")],
)
def test_a_field_of_another_type_is_named_with_its_value(
    get: Callable[[Mapping[str, object], str], object], name: str
) -> None:
    assert get(DOCUMENT, name) == DOCUMENT[name]
    for other in {*DOCUMENT, "missing"} - {name}:
        with pytest.raises(InvalidInput, match=f"'{other}' is .*, wanted"):
            get(DOCUMENT, other)


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_schema_version_is_refused(version: object) -> None:
    check_version({"schema_version": 1}, "it")
    with pytest.raises(UnsupportedVersion, match="it has schema version"):
        check_version({"schema_version": version}, "it")
