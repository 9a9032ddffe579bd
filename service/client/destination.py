"""Where ``connect`` leads: to a store that this process owns from now on, or to a server."""

import os
import socket
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from isogloss.errors import InvalidInput, MissingExtra, ServerUnavailable, StoreOwned
from isogloss.service.calls.all import LocalHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.values.addresses import TOKEN_NAME, parse_address
from isogloss.service.values.state_directory import state_directory
from isogloss.store import Store, StoreOwner, is_object_address, store_owner

TOKEN_VARIABLE = "ISOGLOSS_TOKEN"


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where calls go: exactly one of the two is set."""

    handlers: LocalHandlers | None = None
    """The store, owned by this process from now on."""
    address: str | None = None
    """A server."""
    token: str | None = None
    """What to send to it."""


def find_destination(
    address: str | Path, token: str | None, *, run_workers: bool = True
) -> Destination:
    """Take a store, or find the server that has it.

    Args:
        address: a path, the address of an object store such as ``s3://bucket/prefix``,
            ``unix:/path`` or ``host:port``.
        token: for TCP; None takes the environment variable ISOGLOSS_TOKEN.
        run_workers: whether a store taken here also runs its queued jobs; a server decides itself.

    Returns:
        The store, opened, or the address of the server and what to send to it.

    Raises:
        StoreOwned: another process has the store and runs no server.
        ServerUnavailable: its server is on another machine, and answers only there.
        InvalidInput: ``address`` is empty, or an address of an unknown scheme.
        MissingExtra: ``address`` is on an object store, and obstore is not installed.
    """
    token = token or os.environ.get(TOKEN_VARIABLE)
    text = str(address)
    if not text:
        raise InvalidInput(
            "address is empty: give a path, s3://BUCKET/PREFIX, unix:/PATH, or HOST:PORT"
        )
    if isinstance(address, str) and (text.startswith("unix:") or _is_host_and_port(text)):
        return Destination(address=str(parse_address(text)), token=token)
    store = address if is_object_address(address) else Path(address)
    is_there = not isinstance(store, Path) or store.exists()
    owner = store_owner(store) if is_there else None
    if owner is None or owner.address is None:
        _check_complete_installation()
        try:
            owner = Owner(Store.open(store), run_workers=run_workers)
            return Destination(handlers=LocalHandlers(owner))
        except StoreOwned:
            owner = store_owner(store)  # a server may have taken it just now
            if owner is None or owner.address is None:
                raise
    _check_near(owner, owner.address)
    if not owner.address.startswith("unix:") and token is None:
        token = _kept_token(state_directory(store))
    return Destination(address=owner.address, token=token)


def _check_complete_installation() -> None:
    """Refuse to open a store where only what a client needs is installed."""
    try:
        import_module("google_crc32c")  # the first thing that any store needs
    except ImportError as error:
        raise MissingExtra(
            "only the client is installed here, which opens no store itself: give the address of a "
            "server, or the path of a store that one serves, or `pip install 'isogloss[server]'`"
        ) from error


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
