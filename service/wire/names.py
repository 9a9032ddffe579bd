"""Resource names: ``recordings/a`` on the wire, the id ``a`` in values."""

import re
from typing import cast

from isogloss.errors import InvalidInput, InvalidName
from isogloss.service.values.arguments import found
from isogloss.service.values.results import FeatureRef
from isogloss.store import check_id

_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")


def to_name(collection: str, id: str) -> str:  # noqa: A002 - the glossary's word
    """Return the resource name of an id, such as ``recordings/a``.

    Args:
        collection: such as ``recordings``.
        id: such as ``a``.

    Returns:
        The two, joined.

    Raises:
        InvalidName: the id is malformed or no text; the message shows one that is not.
    """
    given = cast("object", id)
    if not isinstance(given, str):
        hint = ", which it holds as .id" if isinstance(getattr(given, "id", None), str) else ""
        raise InvalidName(f"{found(given)} names none of {collection}, wanted an id{hint}")
    return f"{collection}/{check_id(id)}"


def from_name(collection: str, name: str) -> str:
    """Return the id in a resource name.

    Args:
        collection: such as ``recordings``.
        name: such as ``recordings/a``.

    Returns:
        The id.

    Raises:
        InvalidName: the name is not of that collection, or its id is malformed.
    """
    head, _, given = name.partition("/")
    if head != collection or not _ID.fullmatch(given):
        raise InvalidName(
            f"name {name!r} is not of the form {collection}/ID with an ID like "
            "[a-z][a-z0-9-]{0,62}"
        )
    return given


def to_feature_name(feature: FeatureRef) -> str:
    """Return the resource name of a feature, such as ``dictionaries/a/features/7``.

    Raises:
        InvalidInput: it is no reference to a feature.
    """
    given = cast("object", feature)
    if not isinstance(given, FeatureRef):
        raise InvalidInput(
            f"feature is {found(given)}, wanted what client.dictionary_info(...).feature(7) gives"
        )
    return f"{to_name('dictionaries', feature.dictionary)}/features/{feature.feature}"


def from_feature_name(name: str) -> FeatureRef:
    """Read the resource name of a feature.

    Args:
        name: a resource name such as ``dictionaries/a/features/7``.

    Returns:
        The dictionary's id and the feature's number.

    Raises:
        InvalidName: the name has another form.
    """
    parent, _, index = name.partition("/features/")
    if not (index.isascii() and index.isdecimal() and len(index) < 19):
        raise InvalidName(
            f"name {name!r} is not of the form dictionaries/ID/features/NUMBER, such as "
            "dictionaries/a/features/7"
        )
    return FeatureRef(dictionary=from_name("dictionaries", parent), feature=int(index))
