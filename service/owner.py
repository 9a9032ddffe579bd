"""What ``connect`` is given: a path to own or whose owner to call, or an address."""

import os
from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import InvalidInput, StoreOwned
from isogloss.service.calls import EngineHandlers
from isogloss.service.engine import Engine
from isogloss.service.listening import TOKEN_NAME, parse_address
from isogloss.store import Store, store_owner

TOKEN_VARIABLE = "ISOGLOSS_TOKEN"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where calls go: exactly one of the two is set."""

    handlers: EngineHandlers | None = None
    """The store, owned by this process from now on."""
    address: str | None = None
    """A server."""
    token: str | None = None
    """What to send to it."""


def find_target(target: str | Path, token: str | None, *, run_workers: bool = True) -> Target:
    """Take a store, or find the server that has it.

    Args:
        target: a path, ``unix:/path`` or ``host:port``.
        token: for TCP; None takes the environment variable ISOGLOSS_TOKEN.
        run_workers: whether a store taken here also runs its queued jobs; a server decides itself.

    Raises:
        StoreOwned: another process has the store and runs no server.
        InvalidInput: ``target`` is empty.
    """
    token = token or os.environ.get(TOKEN_VARIABLE)
    text = str(target)
    if not text:
        raise InvalidInput("target is empty: give a path, unix:/PATH, or HOST:PORT")
    if isinstance(target, str) and (text.startswith("unix:") or _is_host_and_port(text)):
        return Target(address=str(parse_address(text)), token=token)
    path = Path(target)
    owner = store_owner(path) if path.exists() else None
    if owner is None or owner.address is None:
        try:
            engine = Engine(Store.open(path), run_workers=run_workers)
            return Target(handlers=EngineHandlers(engine))
        except StoreOwned:
            owner = store_owner(path)  # a server may have taken it just now
            if owner is None or owner.address is None:
                raise
    if not owner.address.startswith("unix:") and token is None:
        token = _kept_token(path)
    return Target(address=owner.address, token=token)


def _is_host_and_port(text: str) -> bool:
    head, colon, port = text.rpartition(":")
    return bool(colon) and port.isdecimal() and "/" not in head and not Path(text).exists()


def _kept_token(store: Path) -> str | None:
    path = store / TOKEN_NAME
    return path.read_text().strip() if path.exists() else None
