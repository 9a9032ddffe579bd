"""The table of jobs in its SQLite file: made, brought up to date, and its errors named."""

import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from isogloss.errors import CorruptData, StorageError, StorageFull, UnsupportedVersion
from isogloss.store import can_write, create_if_missing, open_sqlite_copy

SCHEMA_VERSION = 1

_SCHEMA = """
create table if not exists job_schema(version integer not null);
create table if not exists job(
  number integer primary key autoincrement,
  id text not null unique,
  kind text not null,
  spec text not null,
  target text not null,
  request_id text unique,
  state text not null,
  result text,
  reason text,
  message text,
  step integer not null default 0,
  total_steps integer not null default 0,
  metrics text not null default '{}',
  memo text not null default '{}',
  attempt integer not null default 0,
  furthest integer not null default 0,
  furthest_before integer not null default 0,
  stalls integer not null default 0,
  not_before real not null default 0,
  lease_until real not null default 0,
  holder text,
  created real not null,
  updated real not null,
  version integer not null default 1
);
create index if not exists job_by_state on job(state, number);
"""

_ADDED: Mapping[str, str] = {
    "boot": "text not null default ''",
    "client": "text not null default ''",
    "turn": "integer not null default 0",
    "memory": "integer not null default 0",
    "limit_s": "real not null default 0",
    "ran_s": "real not null default 0",
}
"""Columns that the first release did not have: the start of the machine by which leases count
(without it a lease counts by the wall clock, and so has ended); whose the job is; when its last
attempt began, counted over all jobs; the memory that it needs; for how long it may run (0: as long
as any), and how long it ran."""


def open_table(path: Path, *, is_shared_memory: bool) -> sqlite3.Connection:
    """Open the file of a queue, made where it is missing.

    Where it may not be written, as on a read-only mount, jobs are read as they are now, and changes
    are refused.

    Args:
        path: the file.
        is_shared_memory: whether all processes that use the file can map the same memory.

    Returns:
        The connection, which threads may share.

    Raises:
        StorageError: the file cannot be opened or made.
        UnsupportedVersion: a newer release wrote the file.
    """
    with storage_errors(path):
        is_writable = can_write(path)
        connection = _connect(path) if is_writable else open_sqlite_copy(path)
        connection.row_factory = sqlite3.Row
        try:
            _prepare(connection, path, is_shared_memory=is_shared_memory)
            if not is_writable:
                connection.execute("pragma query_only=on")
        except BaseException:
            connection.close()
            raise
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    create_if_missing(path)
    return sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection, path: Path, *, is_shared_memory: bool) -> None:
    if is_shared_memory:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
    else:
        connection.execute("pragma journal_mode=delete")
        # a commit is the end of the journal's name: its directory is synced too
        connection.execute("pragma synchronous=extra")
    if not _is_complete(connection):  # a queue that is there is opened without a write: it works
        connection.execute("begin immediate")  # on a full disk
        try:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            _add_columns(connection)
            if connection.execute("select max(version) from job_schema").fetchone()[0] is None:
                connection.execute("insert into job_schema values(?)", (SCHEMA_VERSION,))
        except BaseException:
            connection.execute("rollback")
            raise
        connection.execute("commit")
    found = connection.execute("select max(version) from job_schema").fetchone()[0]
    if found > SCHEMA_VERSION:
        raise UnsupportedVersion(
            f"{path} holds jobs of schema {found}, this release reads up to {SCHEMA_VERSION}: "
            "upgrade isogloss"
        )


def _columns(connection: sqlite3.Connection) -> set[str]:
    return {row["name"] for row in connection.execute("pragma table_info(job)")}


def _is_complete(connection: sqlite3.Connection) -> bool:
    tables = {row["name"] for row in connection.execute("select name from sqlite_master")}
    if not {"job", "job_schema", "job_by_state"} <= tables or not _ADDED.keys() <= _columns(
        connection
    ):
        return False
    return connection.execute("select count(*) from job_schema").fetchone()[0] > 0


def _add_columns(connection: sqlite3.Connection) -> None:
    """Add the columns that a table of an earlier release lacks."""
    there = _columns(connection)
    for name, kind in _ADDED.items():
        if name not in there:
            connection.execute(f"alter table job add column {name} {kind}")


@contextmanager
def storage_errors(path: Path) -> Generator[None]:
    """Return a context manager that turns errors of SQLite and of its file into errors of ours.

    Args:
        path: the file, which the errors name.

    Yields:
        Nothing.

    Raises:
        StorageFull: there is no room.
        CorruptData: the file is damaged.
        StorageError: it cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{path}: {error}") from error
    except sqlite3.Error as error:
        if "full" in str(error):
            raise StorageFull(f"{path}: {error}: free some space, then try again") from error
        if isinstance(error, sqlite3.DatabaseError) and "malformed" in str(error):
            raise CorruptData(f"{path}: {error}: restore that file from a backup") from error
        raise StorageError(f"{path}: {error}") from error
