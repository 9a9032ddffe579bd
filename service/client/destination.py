"""Decide what an address given to ``connect`` means: a store to open here, or a server to call."""

import os
import socket
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from isogloss.errors import (
    InvalidInput,
    MissingExtra,
    NotPermitted,
    ServerUnavailable,
    StorageError,
    StoreOwned,
)
from isogloss.service.transport.credentials import read_token
from isogloss.service.transport.in_process import Answering
from isogloss.service.values.addresses import (
    TOKEN_FILE_VARIABLE,
    TOKEN_NAME,
    TOKEN_VARIABLE,
    parse_address,
)
from isogloss.service.values.arguments import check_text, found
from isogloss.service.values.state_directory import state_directory
from isogloss.store import Store, StoreOwner, can_write, is_object_address, store_owner


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where a client sends its calls. Either ``handlers`` or ``address`` is set, never both."""

    handlers: Answering | None = None
    """The handlers of a store that this process owns from now on."""
    address: str | None = None
    """Address of a server."""
    token: str | None = None
    """The token to send to the server."""


def _checked_text(address: str | Path) -> str:
    """Return an address as text; one of another type, or an empty one, is refused."""
    if not isinstance(cast("object", address), str | Path):
        raise InvalidInput(f"address is {found(address)}, wanted a path, unix:/PATH or HOST:PORT")
    if not str(address):
        raise InvalidInput(
            "address is empty: give a path, s3://BUCKET/PREFIX, unix:/PATH, or HOST:PORT"
        )
    return str(address)


def find_destination(
    address: str | Path, token: str | None, *, run_workers: bool = True, read_only: bool = False
) -> Destination:
    """Open the store at an address, or find the server that owns it.

    Args:
        address: a path, the address of an object store such as ``s3://bucket/prefix``,
            ``unix:/path`` or ``host:port``.
        token: for a server on TCP. None: that in the environment variable ISOGLOSS_TOKEN, or in the
            file that ISOGLOSS_TOKEN_FILE names; where ``address`` is a path, else the one kept with
            the store.
        run_workers: whether a store that is opened here also runs its queued jobs. Ignored for a
            server.
        read_only: whether a store that no server owns is only read, whoever owns it.

    Returns:
        The handlers of the opened store, or the server's address and the token to send to it.

    Raises:
        StoreOwned: another process owns the store and runs no server, and ``read_only`` is False.
        NotFound: there is no store to read, and ``read_only`` is True.
        ServerUnavailable: a server on another machine owns the store, and listens on that machine
            only.
        InvalidInput: ``address`` is empty, or begins with an unknown scheme; or a file of a token
            holds none.
        NotPermitted: others may read the file of a token; or a server owns the store for its user
            alone, and ``read_only`` is False.
        MissingExtra: ``address`` is on an object store, and the package obstore is not installed.
    """
    text = _checked_text(address)
    if token is not None:
        check_text("token", token, "the line in the store's file `token`")
    token = token or os.environ.get(TOKEN_VARIABLE) or _named_token()
    if isinstance(address, str) and (text.startswith("unix:") or _is_host_and_port(text)):
        return Destination(address=str(parse_address(text)), token=token)
    store = address if is_object_address(address) else Path(address)
    is_there = not isinstance(store, Path) or store.exists()
    owner = store_owner(store) if is_there else None
    if owner is None or owner.address is None:
        try:
            return _open_here(store, run_workers=run_workers, read_only=read_only)
        except StoreOwned:
            owner = store_owner(store)  # a server may have taken it just now
            if owner is None or owner.address is None:
                raise
    if not _may_call(owner.address, state_directory(store), token):
        if read_only:
            return _open_here(store, run_workers=run_workers, read_only=True)
        raise NotPermitted(
            f"the store is served at {owner.address} for its user alone: read its files with "
            "connect(..., read_only=True), or ask that user for an address and its token"
        )
    _check_near(owner, owner.address)
    if not owner.address.startswith("unix:") and token is None:
        token = _kept_token(state_directory(store))
    return Destination(address=owner.address, token=token)


def _may_call(address: str, state: Path, token: str | None) -> bool:
    """Whether this user may call the server there: a group that reads files may not."""
    where, path = parse_address(address).socket, state / TOKEN_NAME
    try:
        if where is not None:
            where.stat()
    except PermissionError:
        return False
    except OSError:
        return True  # it is not there, which is told
    return where is not None or token is not None or os.access(path, os.R_OK) or not path.exists()


def _open_here(store: Path | str, *, run_workers: bool, read_only: bool) -> Destination:
    """Open a store in this process, to own it or only to read it."""
    _check_complete_installation()
    # a client alone lacks what they need
    from isogloss.service.calls.all import LocalHandlers, ReadingHandlers
    from isogloss.service.control.owner import Owner

    if read_only:
        attached = Owner(Store.attach(store), run_workers=False)
        return Destination(handlers=ReadingHandlers(attached))
    try:
        owner = Owner(Store.open(store), run_workers=run_workers)
        return Destination(handlers=LocalHandlers(owner))
    except StorageError as error:
        if isinstance(store, Path) and store.exists() and not can_write(store / "_"):
            raise StorageError(
                f"{error}: it takes no writes here, read it with connect(..., read_only=True)"
            ) from error
        raise


def _check_complete_installation() -> None:
    """Raise MissingExtra where only the packages that a client of a server needs are installed."""
    try:
        import_module("google_crc32c")  # the first thing that any store needs
    except ImportError as error:
        raise MissingExtra(
            "only the client is installed here, which opens no store itself: give the address of a "
            "server, or the path of a store that one serves, or `pip install 'isogloss[server]'`"
        ) from error


def _check_near(owner: StoreOwner, address: str) -> None:
    """Raise ServerUnavailable for an address that only the server's own machine can reach."""
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


def _named_token() -> str | None:
    """Return the token in the file that the environment names; None: it names none."""
    path = os.environ.get(TOKEN_FILE_VARIABLE)
    return read_token(path, f"have {TOKEN_FILE_VARIABLE} name another file") if path else None


def _kept_token(state: Path) -> str | None:
    path = state / TOKEN_NAME
    if not path.exists():
        return None
    return read_token(path, f"ask who serves the store for its token, and give {TOKEN_VARIABLE}")
