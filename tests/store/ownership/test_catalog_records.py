"""The catalog of a store without locks."""

import math
import threading
from pathlib import Path

import pytest

from isogloss.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from isogloss.store import Catalog, FileSystem
from isogloss.store.ownership.catalog_records import RecordCatalog


def test_a_catalog_of_records_keeps_the_promises_of_the_other(tmp_path: Path) -> None:
    catalog: Catalog = RecordCatalog(FileSystem(), tmp_path)
    uid = Catalog.new_uid()
    first = catalog.put("probe", "a", uid, {"n": 1})
    assert catalog.get("probe", "a") == first
    assert catalog.find("probe", "b") is None
    with pytest.raises(AlreadyExists, match="'a'"):
        catalog.put("probe", "a", uid, {})
    second = catalog.put("probe", "a", uid, {"n": 2}, replace=True)
    assert (second.created_s, second.body) == (first.created_s, {"n": 2})
    assert second.etag != first.etag
    with pytest.raises(Conflict, match="read it again"):
        catalog.delete("probe", "a", first.etag)
    catalog.put("probe", "b", uid, {})
    assert [entry.id for entry in RecordCatalog(FileSystem(), tmp_path).list("probe")] == ["a", "b"]
    catalog.delete("probe", "a", second.etag)
    with pytest.raises(NotFound, match="there are: b"):
        catalog.get("probe", "a")
    with pytest.raises(NotFound):
        catalog.delete("probe", "a")
    assert catalog.put("probe", "a", uid, {"n": 3}).body == {"n": 3}
    with pytest.raises(InvalidInput, match="kind"):
        catalog.list("nothing")
    with pytest.raises(InvalidInput, match="plain JSON"):
        catalog.put("probe", "c", uid, {"n": math.nan})
    assert isinstance(catalog, RecordCatalog)
    assert len(catalog.litter(older_s=-1.0)) == 3
    assert catalog.litter(older_s=3600.0) == []


def test_of_changes_made_at_once_none_is_lost(tmp_path: Path) -> None:
    uid = Catalog.new_uid()
    created: list[int] = []

    def work(number: int) -> None:
        catalog = RecordCatalog(FileSystem(), tmp_path)
        catalog.put("codes", f"c-{number}", uid, {})
        try:
            catalog.put("codes", "shared", uid, {"n": number})
        except AlreadyExists:
            return
        created.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(created) == 1
    catalog = RecordCatalog(FileSystem(), tmp_path)
    assert len(catalog.list("codes")) == 7
    assert catalog.get("codes", "shared").body == {"n": created[0]}
