"""From the name of a kind to its class, and from plain settings to a kind."""

from collections.abc import Mapping

from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.kinds.table import KINDS
from isogloss.dictionaries.settings import read_settings, settings_schema
from isogloss.errors import InvalidInput


def kind_class(name: str) -> type[Kind]:
    """Import the class of a kind.

    Raises:
        InvalidInput: there is no such kind (the message lists those there are), its package does
            not import, or offers something else.
    """
    found = KINDS.find(name)
    if not isinstance(found, type) or not issubclass(found, Kind):
        raise InvalidInput(
            f"kind {name!r} is {found!r}; wanted a subclass of {Kind.__module__}.{Kind.__name__}"
        )
    return found


def make_kind(name: str, settings: Mapping[str, object]) -> Kind:
    """Build a kind from plain settings, such as JSON or a protobuf Struct gives.

    Raises:
        InvalidInput: there is no such kind, or it refuses a setting.
    """
    return read_settings(kind_class(name), settings, f"kind {name!r}")


def kind_schema(name: str) -> dict[str, object]:
    """Return the JSON schema of a kind's settings.

    Raises:
        InvalidInput: there is no such kind.
    """
    return settings_schema(kind_class(name))


def kind_summary(name: str) -> str:
    """Return the first line of a kind's docstring; empty where it has none.

    Raises:
        InvalidInput: there is no such kind.
    """
    return (kind_class(name).__doc__ or "").strip().partition("\n")[0]
