"""Where a store is decides how it is fenced."""

import grp
import os
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from isogloss.errors import Conflict, InvalidInput
from isogloss.store import Store
from isogloss.store.disk.object_files import ObjectFiles
from isogloss.store.disk.permissions import SHARED
from isogloss.store.ownership.location import StoreLocation

GROUP = grp.getgrgid(os.getegid()).gr_name


def test_a_store_remembers_how_it_is_fenced(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s", fencing="create") as store:
        assert store.fencing == "create"
    with Store.open(tmp_path / "s") as store:
        assert store.fencing == "create"
        assert not (tmp_path / "s" / "catalog.sqlite").exists()
    with pytest.raises(Conflict, match="without naming one"):
        Store.open(tmp_path / "s", fencing="lock")
    with Store.open(tmp_path / "local") as store:
        assert store.fencing == "lock"
    with pytest.raises(Conflict, match="'create'"):
        Store.open(tmp_path / "local", fencing="create")


def test_storage_that_machines_share_is_fenced_by_creation_or_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def kind(location: StoreLocation) -> str:
        return "nfs4" if location.address else ""

    monkeypatch.setattr(StoreLocation, "_type", kind)
    with Store.open(tmp_path / "a") as store:
        assert store.fencing == "create"
    with Store.open(tmp_path / "b", fencing="lock") as store:
        assert store.fencing == "lock"
    assert "may not hold between machines" in caplog.text
    caplog.clear()
    with Store.open(tmp_path / "b"):
        assert "may not hold between machines" in caplog.text


def test_a_store_of_objects_is_fenced_by_creation_and_has_neither_locks_nor_groups() -> None:
    objects = MemoryStore()
    with Store.open("/", files=ObjectFiles(objects)) as store:
        assert store.fencing == "create"
    with pytest.raises(InvalidInput, match='no locks: use fencing="create"'):
        Store.open("/", files=ObjectFiles(MemoryStore()), fencing="lock")
    with pytest.raises(InvalidInput, match="on an object store: who reads it is set there"):
        Store.open("/", files=ObjectFiles(objects), group=GROUP)


def test_a_store_in_a_directory_is_shared_with_a_group_that_exists(tmp_path: Path) -> None:
    Store.open(tmp_path / "s", group=GROUP).close()
    assert (tmp_path / "s").stat().st_mode & 0o7777 == SHARED
    with pytest.raises(InvalidInput, match="no group 'nobody-is-in-it'"):
        Store.open(tmp_path / "s", group="nobody-is-in-it")
