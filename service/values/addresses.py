"""Addresses of servers: a unix socket or a TCP port, and how they are written."""

import hashlib
import ipaddress
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import InvalidInput

TOKEN_NAME = "token"
TOKEN_VARIABLE = "ISOGLOSS_TOKEN"
TOKEN_FILE_VARIABLE = "ISOGLOSS_TOKEN_FILE"
READY = b"ready\n"
"""What a child process writes to its standard output once it answers at its address."""
_MAX_SOCKET_PATH = 100
"""The system's limit is 108 bytes with the closing zero."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """One place to listen."""

    socket: Path | None = None
    """Path of a unix socket; None for TCP."""
    host: str = ""
    """Name or number of the interface, for TCP."""
    port: int = 0
    """Port, for TCP; 0 lets the system choose."""

    def __str__(self) -> str:
        if self.socket is not None:
            return f"unix:{self.socket}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Listening:
    """The addresses and limits of a process that answers calls."""

    addresses: tuple[str, ...] = ()
    """Its addresses, with real port numbers; empty if the store is used in the client's process."""
    tls: bool = False
    """Whether TCP addresses speak TLS."""
    calls: int = 0
    """Calls at a time; 0: no limit."""
    streams: int = 0
    """Calls at a time that read or watch; 0: no limit."""


def parse_address(text: str) -> Address:
    """Read an address: ``unix:/path`` or ``host:port``.

    Raises:
        InvalidInput: the text is neither.
    """
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        if not path.is_absolute() or len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            raise InvalidInput(
                f"socket {text!r} must be an absolute path of at most {_MAX_SOCKET_PATH} bytes"
            )
        return Address(socket=path)
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise InvalidInput(
            f"address {text!r} is neither unix:/PATH nor HOST:PORT, such as 127.0.0.1:7447"
        )
    return Address(host=host.removeprefix("[").removesuffix("]"), port=int(port))


def default_address(state: Path) -> Address:
    """Return a store's unix socket: in its state directory, or if that path is too long, in /tmp.

    Args:
        state: see :func:`isogloss.service.values.state_directory.state_directory`.
    """
    inside = state.resolve() / "run" / "socket"
    if len(os.fsencode(inside)) <= _MAX_SOCKET_PATH:
        return Address(socket=inside)
    digest = hashlib.sha256(os.fsencode(inside)).hexdigest()[:16]
    return Address(socket=Path(tempfile.gettempdir()) / f"isogloss-{os.getuid()}" / digest)
