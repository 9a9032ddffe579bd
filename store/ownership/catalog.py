"""The catalog: a list of the resources of a store, by kind and id, in one sqlite file.

Safe from several threads and processes at once; every change is durable when the call returns.
"""

import contextlib
import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    StorageError,
    StorageFull,
)
from isogloss.short_repr import short_repr
from isogloss.store.disk.filesystem import FULL_ERRNOS, create_if_missing
from isogloss.store.ownership.reserve import spend_reserve
from isogloss.store.ownership.sqlite_copy import can_write, open_sqlite_copy
from isogloss.store.schema.names import check_id, check_uid

KINDS = ("recording", "dictionary", "probe", "codes", "atlas", "match")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
  kind TEXT NOT NULL, id TEXT NOT NULL, uid TEXT NOT NULL, body TEXT NOT NULL,
  etag TEXT NOT NULL, created_s REAL NOT NULL, PRIMARY KEY (kind, id)
)
"""
_BUSY_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogEntry:
    """One resource: a recording, a dictionary, a probe, an atlas, codes or a match."""

    kind: str
    """One of ``KINDS``."""

    id: str
    """Name within its kind."""

    uid: str
    """Names the resource's directory; no other resource ever gets it, not even under the same id.
    """

    body: Mapping[str, object]
    """Description of the resource, as JSON; its fields depend on the kind."""

    etag: str
    """Changes with every change of the entry."""

    created_s: float
    """Time of its creation, by the wall clock."""

    __repr__ = short_repr


class Catalog:
    """Reads and changes the entries of one store.

    Where the store takes no writes, as on a read-only mount, it reads them as they were when it was
    opened, and changes are refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """The sqlite file; other tables of the store live in it too."""
        self._lock = threading.Lock()
        try:
            self._connection = _open(path) if can_write(path) else _open_to_read(path)
        except (sqlite3.Error, OSError) as error:
            raise _storage_error(f"catalog {path} cannot be opened", error) from error

    def close(self) -> None:
        """Close the file. Later calls do nothing."""
        with self._lock:
            self._connection.close()

    @staticmethod
    def new_uid() -> str:
        """Return an identifier that nothing else has, ascending with time; 24 hex digits."""
        return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise _storage_error(f"catalog {self.path} failed", error) from error

    def put(
        self,
        kind: str,
        id: str,  # noqa: A002 - the word for it everywhere
        uid: str,
        body: Mapping[str, object],
        *,
        replace: bool = False,
    ) -> CatalogEntry:
        """Add an entry, or with ``replace`` change the one that is there.

        Args:
            kind: one of ``KINDS``.
            id: name within the kind.
            uid: from :meth:`new_uid`.
            body: JSON that belongs to the kind.
            replace: whether to change an entry that exists, instead of raising AlreadyExists.

        Returns:
            The entry as it is now.

        Raises:
            AlreadyExists: the entry exists and ``replace`` is False.
            InvalidInput: the kind is unknown, or the body is no JSON.
        """
        check_kind(kind)
        check_id(id)
        check_uid(uid)
        try:
            text = json.dumps(dict(body), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"body of {kind} {id!r} must be plain JSON: {error}") from error
        etag = hashlib.sha256(f"{uid}{text}{secrets.token_hex(8)}".encode()).hexdigest()[:16]
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT created_s FROM entries WHERE kind=? AND id=?", (kind, id)
            ).fetchone()
            if row is not None and not replace:
                raise AlreadyExists(f"{kind} {id!r} exists: choose another id, or delete it first")
            created_s = time.time() if row is None else float(row[0])
            connection.execute(
                "INSERT OR REPLACE INTO entries VALUES (?,?,?,?,?,?)",
                (kind, id, uid, text, etag, created_s),
            )
        return CatalogEntry(
            kind=kind, id=id, uid=uid, body=json.loads(text), etag=etag, created_s=created_s
        )

    def _select(self, where: str, values: tuple[str, ...]) -> list[CatalogEntry]:
        with self._lock:
            try:
                found = self._connection.execute(
                    f"SELECT kind,id,uid,body,etag,created_s FROM entries WHERE {where} "
                    "ORDER BY id",
                    values,
                ).fetchall()
            except sqlite3.Error as error:
                raise _storage_error(f"catalog {self.path} failed", error) from error
        return [
            CatalogEntry(kind=k, id=i, uid=u, body=json.loads(b), etag=e, created_s=c)
            for k, i, u, b, e, c in found
        ]

    def get(self, kind: str, id: str) -> CatalogEntry:  # noqa: A002 - as above
        """Return an entry; NotFound where there is no such entry."""
        found = self._select("kind=? AND id=?", (check_kind(kind), id))
        if not found:
            known = ", ".join(entry.id for entry in self.list(kind)) or "none"
            raise NotFound(f"no {kind} {id!r}; there are: {known}")
        return found[0]

    def find(self, kind: str, id: str) -> CatalogEntry | None:  # noqa: A002 - as above
        """Return an entry, or None."""
        found = self._select("kind=? AND id=?", (check_kind(kind), id))
        return found[0] if found else None

    def list(self, kind: str) -> list[CatalogEntry]:
        """Return all entries of a kind, by id."""
        return self._select("kind=?", (check_kind(kind),))

    def delete(self, kind: str, id: str, etag: str | None = None) -> None:  # noqa: A002 - as above
        """Remove an entry; where the disk is full the store's reserve makes room for that.

        NotFound is raised where there is no such entry, Conflict where it changed since.

        Args:
            kind: one of ``KINDS``.
            id: name within the kind.
            etag: etag of the entry as it was read; None: delete it even if it changed since.

        Raises:
            StorageFull: there is no room, and no reserve either.
        """
        check_kind(kind)
        try:
            self._delete(kind, id, etag)
        except StorageFull:
            if not spend_reserve(self.path.parent):
                raise
            self._delete(kind, id, etag)

    def _delete(self, kind: str, id: str, etag: str | None) -> None:  # noqa: A002 - as above
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT etag FROM entries WHERE kind=? AND id=?", (kind, id)
            ).fetchone()
            if row is None:
                raise NotFound(f"no {kind} {id!r}")
            if etag is not None and row[0] != etag:
                raise Conflict(
                    f"{kind} {id!r} has etag {row[0]}, not {etag}: it changed; read it again"
                )
            connection.execute("DELETE FROM entries WHERE kind=? AND id=?", (kind, id))


def _open(path: Path) -> sqlite3.Connection:
    create_if_missing(path)
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open a copy of a catalog that this process may not write; changes are refused."""
    connection = open_sqlite_copy(path)
    connection.execute(_SCHEMA)
    connection.execute("PRAGMA query_only=ON")
    return connection


def check_kind(kind: str) -> str:
    """Return ``kind`` unchanged if it is one of ``KINDS``; InvalidInput otherwise."""
    if kind not in KINDS:
        raise InvalidInput(f"kind {kind!r} is not one of {list(KINDS)}")
    return kind


def _storage_error(what: str, error: sqlite3.Error | OSError) -> StorageError:
    """Return the error of ours for one of SQLite or of its file."""
    number = error.errno if isinstance(error, OSError) else None
    if number in FULL_ERRNOS or "full" in str(error):
        return StorageFull(f"{what}: {error}: free some space, then try again")
    return StorageError(f"{what}: {error}")
