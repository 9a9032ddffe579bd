"""Owning a store by a lock, and the file that says who holds it and where its server answers."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import StoreOwned
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.disk.permissions import SECRET
from isogloss.store.schema.json_fields import SCHEMA_VERSION, is_mapping

LOCK_NAME = "isogloss.lock"
SERVER_NAME = "server.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreOwner:
    """Who owns a store."""

    pid: int
    """Process id on ``host``."""

    host: str
    """Name of the machine."""

    address: str | None
    """Address of its server, such as ``unix:/run/user/1000/isogloss.sock``; None if it runs no
    server.
    """

    def to_dict(self) -> dict[str, object]:
        """Return the owner as a JSON object."""
        return {
            "schema_version": SCHEMA_VERSION,
            "pid": self.pid,
            "host": self.host,
            "address": self.address,
            "since_s": time.time(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> "StoreOwner":
        """Read an owner from a JSON object; fields that are missing or odd count as unknown."""
        pid, address = document.get("pid"), document.get("address")
        return cls(
            pid=pid if isinstance(pid, int) else 0,
            host=str(document.get("host", "")),
            address=address if isinstance(address, str) else None,
        )


class Ownership:
    """Holds the lock of a store until it is closed, or the process ends in any way."""

    def __init__(self, files: FileSystem, root: Path) -> None:
        self._files = files
        self._root = root
        path = root / LOCK_NAME
        with contextlib.suppress(FileExistsError):
            files.close(files.create(path, SECRET))  # a reader's lock would keep the owner out
        self._descriptor: int | None = files.open(path, write=True)
        if not files.lock(self._descriptor):
            files.close(self._descriptor)
            self._descriptor = None
            raise StoreOwned(owned_message(root, _read_owner(files, root)))
        try:
            self.set_server(None)
        except BaseException:
            files.close(self._descriptor)  # and with it the lock
            self._descriptor = None
            raise

    def set_server(self, address: str | None) -> None:
        """Write to ``server.json`` where this owner's server answers; None when it has none."""
        owner = StoreOwner(pid=os.getpid(), host=socket.gethostname(), address=address)
        content = json.dumps(owner.to_dict(), indent=1).encode()
        self._files.write_atomic(self._root / SERVER_NAME, content)

    def check(self) -> None:
        """Do nothing: while this process holds the lock, no other can own the store."""

    def close(self) -> None:
        """Give the store up. Later calls do nothing."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            self._files.remove(self._root / SERVER_NAME)
        self._files.close(self._descriptor)
        self._descriptor = None


def owned_message(root: Path, owner: StoreOwner | None) -> str:
    """Say who holds a store and what to do about it."""
    who = f"process {owner.pid} on {owner.host}" if owner else "another process"
    where = (
        f"connect to its server at {owner.address}"
        if owner and owner.address
        else "wait for it or end it, or read the store meanwhile with connect(..., "
        "read_only=True); several processes share a store through `isogloss serve`"
    )
    return f"store {root} is owned by {who}: {where}"


def _read_owner(files: FileSystem, root: Path) -> StoreOwner | None:
    try:
        document: object = json.loads(files.read_whole(root / SERVER_NAME))
    except (FileNotFoundError, IsADirectoryError, ValueError, RecursionError):
        return None
    return StoreOwner.from_dict(document) if is_mapping(document) else None


def lock_owner(files: FileSystem, root: Path) -> StoreOwner | None:
    """Return who holds the lock of a store now; None when nobody does, or there is no store."""
    try:
        descriptor = files.open(root / LOCK_NAME)
    except FileNotFoundError:
        return None
    except PermissionError:  # who may only read a store sees its owner by the name it left
        return _read_owner(files, root)
    try:
        if not files.is_locked(descriptor):
            return None
    finally:
        files.close(descriptor)
    return _read_owner(files, root) or StoreOwner(pid=0, host="", address=None)
