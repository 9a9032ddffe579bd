"""The catalog in sqlite."""

import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.small_disk import NEEDS_ROOT, fill, small_disk

from isogloss.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    InvalidName,
    NotFound,
    StorageFull,
)
from isogloss.store import Catalog, keep_reserve

UID = "0" * 24


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog.sqlite")


def test_an_entry_is_kept_listed_and_deleted(catalog: Catalog) -> None:
    entry = catalog.put("probe", "p-one", UID, {"rows": 3, "nested": {"a": [1]}})
    assert catalog.get("probe", "p-one") == entry
    catalog.put("probe", "a-first", "1" * 24, {})
    assert [found.id for found in catalog.list("probe")] == ["a-first", "p-one"]
    assert catalog.list("match") == []
    assert catalog.find("match", "p-one") is None
    with pytest.raises(Conflict, match="it changed"):
        catalog.delete("probe", "p-one", etag="wrong")
    catalog.delete("probe", "p-one", etag=entry.etag)
    with pytest.raises(NotFound, match="a-first"):
        catalog.get("probe", "p-one")
    with pytest.raises(NotFound, match="p-one"):
        catalog.delete("probe", "p-one")


def test_an_entry_is_replaced_only_when_asked_to(catalog: Catalog) -> None:
    first = catalog.put("atlas", "x", UID, {"v": 1})
    with pytest.raises(AlreadyExists, match="delete it first"):
        catalog.put("atlas", "x", UID, {"v": 2})
    second = catalog.put("atlas", "x", UID, {"v": 2}, replace=True)
    assert second.etag != first.etag
    assert second.created_s == first.created_s
    assert catalog.get("atlas", "x").body == {"v": 2}


def test_the_catalog_refuses_bad_input(catalog: Catalog) -> None:
    with pytest.raises(InvalidInput, match="not one of"):
        catalog.put("thing", "x", UID, {})
    with pytest.raises(InvalidName, match="a-z"):
        catalog.put("probe", "../x", UID, {})
    with pytest.raises(InvalidName, match="hexadecimal"):
        catalog.put("probe", "x", "..", {})
    with pytest.raises(InvalidInput, match="plain JSON"):
        catalog.put("probe", "x", UID, {"a": object()})
    with pytest.raises(InvalidInput, match="plain JSON"):
        catalog.put("probe", "x", UID, {"a": float("nan")})
    assert catalog.list("probe") == []


def test_the_catalog_takes_changes_from_many_threads_and_connections(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    shared = Catalog(path)

    def work(number: int) -> None:
        catalog = shared if number % 2 else Catalog(path)
        for turn in range(5):
            catalog.put("codes", f"c-{number}-{turn}", Catalog.new_uid(), {"turn": turn})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = Catalog(path).list("codes")
    assert len(entries) == len({entry.uid for entry in entries}) == 30


def test_uids_ascend_with_time() -> None:
    uids = [Catalog.new_uid() for _ in range(100)]
    assert len(set(uids)) == 100
    assert [uid[:12] for uid in uids] == sorted(uid[:12] for uid in uids)


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path]:
    """A disk with just enough room for a reserve to be made."""
    with small_disk(tmp_path / "disk", 68) as disk:
        yield disk


def use_up(catalog: Catalog, disk: Path) -> None:
    """Change an entry until the log of changes has no room."""
    while True:
        fill(disk)
        catalog.put("probe", "p-1", UID, {"text": "y" * 10_000}, replace=True)


@NEEDS_ROOT
def test_on_a_full_disk_the_reserve_lets_entries_be_deleted_and_without_it_says_so(
    disk: Path,
) -> None:
    catalog = Catalog(disk / "catalog.sqlite")
    for number in range(3):
        catalog.put("probe", f"p-{number}", UID, {"text": "x" * 10_000})
    assert keep_reserve(disk)
    fill(disk)
    catalog.delete("probe", "p-0")
    assert not (disk / ".reserve").exists()
    with pytest.raises(StorageFull):
        use_up(catalog, disk)
    with pytest.raises(StorageFull):
        catalog.delete("probe", "p-1")
    assert [entry.id for entry in catalog.list("probe")] == ["p-1", "p-2"]
