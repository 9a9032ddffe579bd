"""Check an address before a server listens there: it needs a private directory, or TLS."""

import os
import stat

from isogloss.errors import NotPermitted
from isogloss.service.values.addresses import Address


def check_address(address: Address, *, has_tls: bool) -> None:
    """Make the directory of a socket private; refuse other machines without TLS.

    Raises:
        NotPermitted: the socket's directory is open to others, or belongs to someone else; or the
            address reaches beyond this machine and there is no certificate.
    """
    if address.socket is None:
        if not address.is_loopback and not has_tls:
            raise NotPermitted(
                f"{address} can be reached from other machines, and without TLS everyone between "
                "reads tokens and activations: give a certificate and key, or listen on 127.0.0.1 "
                "and tunnel"
            )
        return
    directory = address.socket.parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NotPermitted(
            f"{directory} has mode {stat.S_IMODE(found.st_mode):o} and owner {found.st_uid}, "
            f"wanted 700 and {os.getuid()}: whoever can open the socket controls the store; "
            f"chmod 700 {directory}, or give another directory"
        )
