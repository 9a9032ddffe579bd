"""Where a store is decides how it is fenced."""

from pathlib import Path

import pytest

from isogloss.errors import Conflict
from isogloss.store import Store
from isogloss.store.ownership.location import StoreLocation


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
