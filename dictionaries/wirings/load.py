"""From the name of a wiring to the wiring."""

from collections.abc import Sequence

from isogloss.dictionaries.wirings.table import WIRINGS
from isogloss.dictionaries.wirings.wiring import Wiring
from isogloss.errors import InvalidInput


def make_wiring(name: str) -> Wiring:
    """Return the wiring of a name.

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
    return found()


def check_sites(wiring: str, widths: Sequence[int]) -> None:
    """Refuse sites that a wiring does not take.

    Args:
        wiring: its name.
        widths: of the sites, in the order in which the caller named them.

    Raises:
        InvalidInput: there is no such wiring, or it wants other sites.
    """
    make_wiring(wiring).connect(widths)
