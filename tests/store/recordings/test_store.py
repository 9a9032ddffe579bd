import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from isogloss.errors import (
    AlreadyExists,
    Conflict,
    CorruptData,
    InvalidInput,
    InvalidName,
    NotFound,
    StoreOwned,
    UnsupportedVersion,
)
from isogloss.store import Catalog, Store, store_owner
from isogloss.store.disk import signed_json
from isogloss.store.testing import sample_spec

UID = "0" * 24


def test_a_store_has_one_owner_who_is_named(tmp_path: Path) -> None:
    assert store_owner(tmp_path) is None
    with Store.open(tmp_path) as store:
        store.set_server("unix:/tmp/some.sock")
        with pytest.raises(StoreOwned, match=rf"process {os.getpid()} .* unix:/tmp/some\.sock"):
            Store.open(tmp_path)
        owner = store_owner(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.address) == (os.getpid(), "unix:/tmp/some.sock")
    assert store_owner(tmp_path) is None
    Store.open(tmp_path).close()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom isogloss.store import Store\n"
        "store = Store.open(sys.argv[1])\nprint('open', flush=True)\ntime.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "open\n"
    with pytest.raises(StoreOwned, match=rf"process {child.pid}"):
        Store.open(tmp_path)
    with Store.attach(tmp_path) as attached:
        assert attached.recordings() == []
    child.kill()
    child.wait()
    assert store_owner(tmp_path) is None
    Store.open(tmp_path).close()


def test_a_directory_of_something_else_does_not_become_a_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InvalidInput, match=r"thesis\.txt"):
        Store.open(tmp_path)
    with pytest.raises(NotFound, match="no store"):
        Store.open(tmp_path / "none", create=False)
    with pytest.raises(NotFound, match="no store"):
        Store.attach(tmp_path / "none")


def test_a_store_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    manifest = tmp_path / "isogloss.json"
    manifest.write_text(json.dumps({"schema_version": 7}))
    for opening in (Store.open, Store.attach):
        with pytest.raises(UnsupportedVersion, match="schema version 7"):
            opening(tmp_path)
    manifest.write_text("{")
    with pytest.raises(CorruptData, match="cannot be read"):
        Store.open(tmp_path)
    manifest.write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(CorruptData, match="does not match its checksum"):
        Store.open(tmp_path)
    manifest.write_bytes(signed_json.encode({"schema_version": 1}))
    Store.open(tmp_path).close()


def test_artifacts_have_directories_that_no_name_can_leave(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        other = "1" * 24
        assert store.artifact("probe", UID) == tmp_path / "probes" / UID
        assert store.artifact("codes", UID, other) == tmp_path / "codes" / UID / other
        assert store.artifact("codes", UID, other).parent.is_dir()
        for uid in ("../x", "a", "", UID + "/..", "0" * 15):
            with pytest.raises(InvalidName, match="hexadecimal"):
                store.artifact("match", uid)
        with pytest.raises(InvalidInput, match="two for codes"):
            store.artifact("codes", UID)
        with pytest.raises(InvalidInput, match="two for codes"):
            store.artifact("nonsense", UID)


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


def test_a_recording_half_created_leaves_its_id_free(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        (tmp_path / "recordings" / UID).mkdir()
        assert store.recordings() == []
        store.create_recording(sample_spec(), [])
        assert [recording.id for recording in store.recordings()] == ["sample"]
