"""Read typed fields out of JSON documents, with errors that name the field."""

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from isogloss.errors import InvalidInput, UnsupportedVersion

SCHEMA_VERSION = 1
"""Version of every JSON document and binary frame this release writes, but where one says more."""


def check_version(
    document: Mapping[str, object], what: str, versions: Sequence[int] = (SCHEMA_VERSION,)
) -> None:
    """Raise UnsupportedVersion for a JSON document that this release cannot read.

    Args:
        document: any JSON object.
        what: name of the document, as the error message shows it.
        versions: the versions of such a document that this release reads.

    Raises:
        UnsupportedVersion: ``schema_version`` is missing, or is not one that this release reads.
    """
    found = document.get("schema_version")
    if isinstance(found, bool) or found not in versions:
        known = " and ".join(str(version) for version in versions)
        raise UnsupportedVersion(
            f"{what} has schema version {found!r} and this release reads {known}: "
            "open it with the release of isogloss that wrote it"
        )


def is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether a value read from JSON is an object."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether a value read from JSON is an array."""
    return isinstance(value, list)


def get_text(document: Mapping[str, object], key: str) -> str:
    """Return a text field of a JSON document; InvalidInput when it is absent or no text."""
    value = document.get(key)
    if not isinstance(value, str):
        raise InvalidInput(f"field {key!r} is {value!r}, wanted text")
    return value


def get_count(document: Mapping[str, object], key: str) -> int:
    """Return a field that counts something; InvalidInput when it is not an integer >= 0."""
    value = document.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidInput(f"field {key!r} is {value!r}, wanted an integer >= 0")
    return value


def get_mapping(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    """Return an object field of a JSON document; InvalidInput when it is absent or none."""
    value = document.get(key)
    if not is_mapping(value):
        raise InvalidInput(f"field {key!r} is {value!r}, wanted an object")
    return value


def get_items(document: Mapping[str, object], key: str) -> list[object]:
    """Return an array field of a JSON document; InvalidInput when it is absent or none."""
    value = document.get(key)
    if not is_list(value):
        raise InvalidInput(f"field {key!r} is {value!r}, wanted an array")
    return value
