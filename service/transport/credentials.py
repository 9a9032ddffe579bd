"""Files that hold what a caller or a server is known by: tokens, certificates, keys."""

import os
import ssl
import stat
from pathlib import Path

from isogloss.errors import InvalidInput, NotAuthenticated, NotPermitted

_MOST_BYTES = 1 << 20
_LEAST_CHARACTERS = 16


def read_token(path: str | Path, remedy: str) -> str:
    """Return the token in a file that only its owner reads.

    Args:
        path: of the file.
        remedy: ends the message of an error: what the caller does about a file that is no such.

    Raises:
        InvalidInput: there is no file of that name, or it holds no whole token.
        NotPermitted: others may read or write it.
    """
    try:
        held, mode = _read(Path(path))
        token = held.decode("ascii").strip()
    except OSError as error:
        raise InvalidInput(f"{path} holds no token ({error.strerror}): {remedy}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} holds no token ({error}): {remedy}") from error
    if mode & 0o077:
        raise NotPermitted(
            f"{path} has mode {mode:o}, wanted 600: others may know the token; {remedy}"
        )
    if not is_token(token):
        raise InvalidInput(
            f"{path} holds {len(token)} characters, wanted a token of at least "
            f"{_LEAST_CHARACTERS} that print: {remedy}"
        )
    return token


def is_token(text: str) -> bool:
    """Return whether a text is long enough for a token, and can be sent as one."""
    return len(text) >= _LEAST_CHARACTERS and text.isascii() and text.isprintable()


def read_certificate(path: str | Path) -> bytes:
    """Return the PEM bytes of certificates; NotAuthenticated where a file holds none."""
    try:
        held = _read(Path(path))[0]
    except OSError as error:
        raise NotAuthenticated(
            f"certificate {path} cannot be read: {error.strerror}; give the PEM file that signs "
            "the server's"
        ) from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=held.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise NotAuthenticated(
            f"{path} holds no certificate in PEM ({error}); give the PEM file that signs the "
            "server's"
        ) from error
    return held


def read_pem(path: Path) -> bytes:
    """Return a server's file for TLS; InvalidInput where it cannot be read."""
    try:
        return _read(path)[0]
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read ({error.strerror}): give --certificate and --key PEM files "
            "that the server's user may read"
        ) from error


def check_pair(certificate: Path, key: Path) -> None:
    """Refuse two files that are no certificate and its key, without a passphrase, in PEM.

    Args:
        certificate: file of the chain.
        key: file of the private key.

    Raises:
        InvalidInput: they are no such pair, or cannot be read.
    """
    for path in (key, certificate):
        read_pem(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInput(
            f"{certificate} and {key} are no certificate and its key in PEM, without a passphrase "
            f"({error}): give --certificate and --key that belong together"
        ) from error


def _read(path: Path) -> tuple[bytes, int]:
    """Return what a file holds, and its mode. What is no file is not waited for.

    Raises:
        OSError: it cannot be read, is no file, or is larger than a mebibyte.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is no file", str(path))
        held = os.read(descriptor, _MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(held) > _MOST_BYTES:
        raise OSError(0, f"it is larger than {_MOST_BYTES:,} bytes", str(path))
    return held, stat.S_IMODE(found.st_mode)
