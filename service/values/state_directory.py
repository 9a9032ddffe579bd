"""Find where the files of a store are on this machine, and how another process here opens it.

A store in a directory keeps all of them inside. One on an object store has a state directory on
each machine that owned it, since sockets, tokens and queues of jobs are files.
"""

import hashlib
import os
from pathlib import Path

from isogloss.errors import StorageError
from isogloss.store import Store, is_object_address

STATE_VARIABLE = "XDG_STATE_HOME"


def state_directory(store: Path | str) -> Path:
    """Return where this machine keeps the token, socket, logs and queue of a store.

    Args:
        store: a directory, which is then the answer, or the address of an object store.
    """
    return _state_of(store) if is_object_address(store) else Path(store)


def _state_of(address: str) -> Path:
    given = Path(os.environ.get(STATE_VARIABLE, ""))
    # what is not absolute is to be ignored, says the XDG base directory specification
    base = given if given.is_absolute() else Path.home() / ".local" / "state"
    return base / "isogloss" / hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:24]


def make_state_directory(store: Store) -> Path:
    """Return the state directory of an open store; made, for its user alone, where it is missing.

    Raises:
        StorageError: it cannot be made.
    """
    if not store.is_remote:
        return store.root
    found = _state_of(store.address)
    try:
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{found}, which is to hold the jobs and the token of {store.address}, cannot be made "
            f"({error}): set {STATE_VARIABLE} to a directory of yours"
        ) from error
    return found


def location(store: Store) -> str:
    """Return an address by which other processes of this machine can open a store."""
    return store.address if store.is_remote else str(store.root)
