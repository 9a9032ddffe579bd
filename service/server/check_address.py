"""Check an address before a server listens there: it needs a private directory, or TLS."""

import os
import socket
import stat
from pathlib import Path

from isogloss.errors import NotPermitted, ServerUnavailable
from isogloss.service.values.addresses import Address


def check_address(address: Address, *, has_tls: bool) -> None:
    """Make the directory of a socket private; refuse other machines without TLS.

    Raises:
        NotPermitted: the socket's directory is open to others, or belongs to someone else; or the
            address reaches beyond this machine and there is no certificate.
    """
    if address.socket is None:
        _check_reach(address, has_tls=has_tls)
        return
    address.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(address.socket.parent)


def check_free(address: Address, *, has_tls: bool) -> None:
    """Refuse an address at which a server would not start. Nothing is made, and nothing is kept.

    Args:
        address: where the server is to listen.
        has_tls: whether there is a certificate.

    Raises:
        NotPermitted: as :func:`check_address`, of a directory that is there.
        ServerUnavailable: another process listens at the port, or it is none of this machine's.
    """
    if address.socket is not None:
        if os.path.lexists(address.socket.parent):
            _check_private(address.socket.parent)
        return
    _check_reach(address, has_tls=has_tls)
    why: list[str] = []
    try:
        places = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        places, why = [], [error.strerror or str(error)]
    for family, kind, protocol, _, place in places:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
                probe.bind(place)
        except OSError as error:
            why.append(error.strerror or str(error))
    if why and len(why) >= len(places):  # of several addresses of a name one is enough
        raise ServerUnavailable(
            f"cannot listen on {address}: {why[0]}; give --listen another address or port, or 0 "
            "for one that is free"
        )


def _check_reach(address: Address, *, has_tls: bool) -> None:
    if not address.is_loopback and not has_tls:
        raise NotPermitted(
            f"{address} can be reached from other machines, and without TLS everyone between "
            "reads tokens and activations: give a certificate and key, or listen on 127.0.0.1 "
            "and tunnel"
        )


def _check_private(directory: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NotPermitted(
            f"{directory} has mode {stat.S_IMODE(found.st_mode):o} and owner {found.st_uid}, "
            f"wanted 700 and {os.getuid()}: whoever can open the socket controls the store; "
            f"chmod 700 {directory}, or give another directory"
        )
