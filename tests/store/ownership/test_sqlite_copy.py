"""SQLite files on storage that takes no writes."""

import sqlite3
from pathlib import Path

import pytest

from isogloss.errors import StorageError
from isogloss.store.ownership import catalog as catalogs
from isogloss.store.ownership import sqlite_copy
from isogloss.store.ownership.catalog import Catalog
from isogloss.store.ownership.sqlite_copy import can_write, open_sqlite_copy


def test_a_file_with_a_log_that_was_not_folded_in_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("pragma journal_mode=wal")
    writer.execute("create table t(n)")
    writer.execute("insert into t values (7)")
    assert path.with_name("a.sqlite-wal").stat().st_size > 0
    before = sorted(tmp_path.iterdir())
    copy = open_sqlite_copy(path)
    writer.execute("insert into t values (8)")
    assert copy.execute("select n from t").fetchall() == [(7,)]
    copy.execute("insert into t values (9)")
    assert writer.execute("select n from t").fetchall() == [(7,), (8,)]
    assert sorted(tmp_path.iterdir()) == before
    copy.close()
    writer.close()


def test_where_no_shared_memory_can_be_made_file_and_log_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.sqlite"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("pragma journal_mode=wal")
    writer.execute("create table t(n)")
    really = sqlite_copy._in_memory
    refused: list[str] = []

    def in_memory(uri: str) -> sqlite3.Connection:
        if uri.endswith("?mode=ro"):
            refused.append(uri)
            raise sqlite3.OperationalError("unable to open database file")
        return really(uri)

    monkeypatch.setattr(sqlite_copy, "_in_memory", in_memory)
    copy = open_sqlite_copy(path)
    assert copy.execute("select count(*) from t").fetchone() == (0,)
    copy.close()
    writer.close()
    assert len(refused) == 1
    with pytest.raises(FileNotFoundError):
        open_sqlite_copy(tmp_path / "none.sqlite")


def test_a_catalog_that_may_not_be_written_is_read_and_refuses_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "catalog.sqlite"
    catalog = Catalog(path)
    made = catalog.put("probe", "p", catalog.new_uid(), {"a": 1})
    catalog.close()
    before = path.read_bytes()
    assert can_write(path)

    def cannot(path: Path) -> bool:
        del path
        return False

    monkeypatch.setattr(catalogs, "can_write", cannot)
    reading = Catalog(path)
    assert reading.get("probe", "p") == made
    with pytest.raises(StorageError, match="readonly"):
        reading.put("probe", "q", reading.new_uid(), {})
    reading.close()
    assert path.read_bytes() == before
