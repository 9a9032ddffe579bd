"""The token that calls over TCP must carry, and the file that keeps it."""

import secrets
import stat
from pathlib import Path

from isogloss.errors import InvalidInput, NotPermitted
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
        return _kept(path)
    made = token if token is not None else secrets.token_urlsafe(32)
    if not _is_long_enough(made):
        raise InvalidInput(
            f"token has {len(made)} characters, wanted at least 16 that print: leave it out and "
            "one is made"
        )
    write_file_durably(path, f"{made}\n".encode(), mode=0o600, files=files)
    return made


def _kept(path: Path) -> str:
    """Return the token in a file, which must be a private one of a whole token."""
    found = path.stat().st_mode
    if not stat.S_ISREG(found):  # a pipe would be waited for
        raise InvalidInput(f"{path} is no file, wanted one: remove it, and one is made")
    mode = stat.S_IMODE(found)
    if mode & 0o077:
        raise NotPermitted(
            f"{path} has mode {mode:o}, wanted 600: others may know the token; remove the file, "
            "and a new token is made"
        )
    try:
        kept = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} holds no token ({error}): remove it, and one is made"
        ) from error
    if not _is_long_enough(kept):
        raise InvalidInput(
            f"{path} holds {len(kept)} characters, wanted a token of at least 16 that print: "
            "remove it, and one is made"
        )
    return kept


def _is_long_enough(token: str) -> bool:
    return len(token) >= 16 and token.isascii() and token.isprintable()
