"""The token that calls over TCP must carry, and the file that keeps it."""

import secrets
from pathlib import Path

from isogloss.errors import InvalidInput
from isogloss.service.transport.credentials import is_token, read_token
from isogloss.service.values.addresses import TOKEN_NAME
from isogloss.store import FileSystem, write_file_durably


def store_token(state: Path, token: str | None, files: FileSystem | None = None) -> str:
    """Return the token of a store's TCP ports, kept in a file that only its owner reads.

    Args:
        state: the store's state directory.
        token: written over what is kept; None keeps it, or makes one.
        files: the operating system's files by default.

    Returns:
        The token; after a crash the file holds it or what was kept before.

    Raises:
        InvalidInput: a token of less than 16 characters, given or kept, or no file that keeps it.
        NotPermitted: others may read or write the file that keeps it.
    """
    path = state / TOKEN_NAME
    if token is None and path.exists():
        return read_token(path, "remove it, and one is made")
    made = token if token is not None else secrets.token_urlsafe(32)
    check_token(made)
    write_file_durably(path, f"{made}\n".encode(), mode=0o600, files=files)
    return made


def check_token(token: str) -> None:
    """Refuse a token that is too short, or cannot be sent.

    Raises:
        InvalidInput: it has less than 16 characters, or some that do not print.
    """
    if not is_token(token):
        raise InvalidInput(
            f"token has {len(token)} characters, wanted at least 16 that print: leave it out and "
            "one is made"
        )
