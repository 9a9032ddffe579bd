"""What ``connect`` is given: a store to own or whose owner to call, or the address of a server."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import InvalidInput, ServerUnavailable, StoreOwned
from isogloss.service.calls.all import EngineHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.values.addresses import TOKEN_NAME, parse_address
from isogloss.service.values.state_directory import state_directory
from isogloss.store import Store, StoreOwner, is_object_address, store_owner

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
        target: a path, the address of an object store such as ``s3://bucket/prefix``,
            ``unix:/path`` or ``host:port``.
        token: for TCP; None takes the environment variable ISOGLOSS_TOKEN.
        run_workers: whether a store taken here also runs its queued jobs; a server decides itself.

    Raises:
        StoreOwned: another process has the store and runs no server.
        ServerUnavailable: its server is on another machine, and answers only there.
        InvalidInput: ``target`` is empty, or an address of an unknown scheme.
        MissingExtra: ``target`` is on an object store, and obstore is not installed.
    """
    token = token or os.environ.get(TOKEN_VARIABLE)
    text = str(target)
    if not text:
        raise InvalidInput(
            "target is empty: give a path, s3://BUCKET/PREFIX, unix:/PATH, or HOST:PORT"
        )
    if isinstance(target, str) and (text.startswith("unix:") or _is_host_and_port(text)):
        return Target(address=str(parse_address(text)), token=token)
    store = target if is_object_address(target) else Path(target)
    is_there = not isinstance(store, Path) or store.exists()
    owner = store_owner(store) if is_there else None
    if owner is None or owner.address is None:
        try:
            engine = Owner(Store.open(store), run_workers=run_workers)
            return Target(handlers=EngineHandlers(engine))
        except StoreOwned:
            owner = store_owner(store)  # a server may have taken it just now
            if owner is None or owner.address is None:
                raise
    _check_near(owner, owner.address)
    if not owner.address.startswith("unix:") and token is None:
        token = _kept_token(state_directory(store))
    return Target(address=owner.address, token=token)


def _check_near(owner: StoreOwner, address: str) -> None:
    """Refuse an address that means something else here than on its machine."""
    where = parse_address(address)
    is_here = where.socket.exists() if where.socket is not None else not where.is_loopback
    if owner.host not in ("", socket.gethostname()) and not is_here:
        raise ServerUnavailable(
            f"the store is served on {owner.host} at {address}, which only that machine reaches: "
            "serve it there with --listen HOST:PORT and TLS, or connect through a tunnel by "
            "unix:/PATH or HOST:PORT"
        )


def _is_host_and_port(text: str) -> bool:
    head, colon, port = text.rpartition(":")
    return bool(colon) and port.isdecimal() and "/" not in head and not Path(text).exists()


def _kept_token(state: Path) -> str | None:
    path = state / TOKEN_NAME
    return path.read_text().strip() if path.exists() else None
