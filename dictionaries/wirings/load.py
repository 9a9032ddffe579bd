"""From the name of a wiring and plain settings to the wiring."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType

from isogloss.dictionaries.settings import read_settings
from isogloss.dictionaries.wirings.table import WIRINGS
from isogloss.dictionaries.wirings.wiring import Wiring
from isogloss.errors import InvalidInput

_NONE: Mapping[str, object] = MappingProxyType({})


def wiring_class(name: str) -> type[Wiring]:
    """Import the class of a wiring.

    Raises:
        InvalidInput: there is no such wiring (the message lists those there are), its package does
            not import, or offers something else.
    """
    found = WIRINGS.find(name)
    if not isinstance(found, type) or not issubclass(found, Wiring):
        raise InvalidInput(
            f"wiring {name!r} is {found!r}; wanted a subclass of "
            f"{Wiring.__module__}.{Wiring.__name__}"
        )
    return found


def wiring_settings(name: str) -> list[str]:
    """Return the names of a wiring's settings, or raise InvalidInput where there is no such."""
    return [field.name for field in fields(wiring_class(name))]


def make_wiring(name: str, settings: Mapping[str, object] = _NONE) -> Wiring:
    """Build a wiring from plain settings.

    Raises:
        InvalidInput: there is no such wiring, or it refuses a setting.
    """
    return read_settings(wiring_class(name), settings, f"wiring {name!r}")


def check_sites(wiring: str, widths: Sequence[int], settings: Mapping[str, object] = _NONE) -> None:
    """Refuse sites that a wiring does not take.

    Args:
        wiring: its name.
        widths: of the sites, in the order in which the caller named them.
        settings: of the run; those that the wiring does not have are left out.

    Raises:
        InvalidInput: there is no such wiring, or it wants other sites or settings.
    """
    names = wiring_settings(wiring)
    own = {name: value for name, value in settings.items() if name in names}
    make_wiring(wiring, own).connect(widths)
