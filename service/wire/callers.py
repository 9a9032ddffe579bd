"""From where a call comes, and how clients share what a server has only so many of.

A *place* is what a server sees by itself: the unix socket, or the address of a machine. All who
reach the unix socket are one user, since its directory is private; grpc does not show which of
that user's processes calls. So each process of our client sends a name that it made up. The name
divides the share of its place and adds nothing to it: whoever makes up many names takes from
others of the same place only, who are the same user or the same machine.
"""

import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable

CALLER_KEY = "isogloss-caller"
"""Metadata of a call: the name that its process made up."""
_NAME = re.compile(r"[0-9a-z-]{1,32}")
_BETWEEN = " "

_own: tuple[int, str] = (0, "")


def own_name() -> str:
    """Return the name of this process: another one in each, also after a fork."""
    global _own
    if _own[0] != os.getpid():
        _own = (os.getpid(), f"{os.getpid()}-{secrets.token_hex(6)}")
    return _own[1]


def client_of(peer: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Return the client that makes a call: its place, and the name of its process if it says one.

    Args:
        peer: as grpc names the other end of the connection.
        metadata: what the call carries.

    Returns:
        A text, of which :func:`place_of` is the place.
    """
    kind, _, rest = peer.partition(":")
    place = kind if kind == "unix" else f"{kind}:{rest.rpartition(':')[0]}"
    said = [value for key, value in metadata or () if key == CALLER_KEY]
    name = said[0] if len(said) == 1 else ""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return place
    return f"{place}{_BETWEEN}{name}"


def place_of(client: str) -> str:
    """Return the place of a client."""
    return client.partition(_BETWEEN)[0]


def who_makes_room(taken: Iterable[str], client: str, total: int) -> str | None:
    """Say who must give something up for a client, where all there is has been taken.

    Places have equal shares, and within its place so have processes.

    Args:
        taken: the client of each thing that is taken.
        client: who wants one.
        total: how many there are.

    Returns:
        The client that gives one up; None where the one who asks has its share.
    """
    held = Counter(taken)
    places: Counter[str] = Counter()
    for name, count in held.items():
        places[place_of(name)] += count
    mine = place_of(client)
    if places[mine] < total // len({*places, mine}):
        largest = max(places, key=lambda place: places[place])
        return _largest(held, largest)
    here = {name for name in held if place_of(name) == mine}
    if held[client] < places[mine] // len({*here, client}):
        return _largest(held, mine)
    return None


def _largest(held: Counter[str], place: str) -> str:
    """Return the client of a place that holds most."""
    return max((name for name in held if place_of(name) == place), key=lambda name: held[name])
