"""Who owns a store without locks, and which stores those are."""

import errno
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import isogloss.store.ownership.epochs
from isogloss.errors import Fenced, InvalidInput, StoreOwned
from isogloss.store import FileSystem, Store, store_owner
from isogloss.store.ownership.epochs import EpochOwnership


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What processes that want a store slept while they watched its owner."""
    found: list[float] = []
    sleep = time.sleep

    def record(seconds: float) -> None:
        found.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(isogloss.store.ownership.epochs.time, "sleep", record)
    return found


def test_an_owner_of_this_machine_that_died_is_replaced_at_once(
    tmp_path: Path, slept: list[float]
) -> None:
    code = (
        "import os, sys; from isogloss.store import Store\n"
        "Store.open(sys.argv[1], fencing='create'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    with Store.open(tmp_path, lease_s=60.0) as store:
        assert slept == []
        owner = store_owner(tmp_path)
        assert owner is not None
        assert owner.pid == os.getpid()
        store.set_server("unix:/tmp/x.sock")
        with pytest.raises(StoreOwned, match=r"unix:/tmp/x\.sock"):
            Store.open(tmp_path)
    assert store_owner(tmp_path) is None


def test_an_owner_of_another_machine_is_watched_for_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    files = FileSystem()
    alive = EpochOwnership(files, tmp_path, lease_s=3.0)
    monkeypatch.setattr(isogloss.store.ownership.epochs._Beat, "is_here", False)
    with pytest.raises(StoreOwned, match=str(os.getpid())):
        EpochOwnership(files, tmp_path)
    alive._wake.set()  # it hangs, and gives no sign of life any more
    slept.clear()
    start = time.monotonic()
    heir = EpochOwnership(files, tmp_path, lease_s=3.0)
    assert time.monotonic() - start >= 3.0
    assert sum(slept) < 2 * 3.0  # for the lease of the owner, not for the 30 s of others
    assert heir.epoch == alive.epoch + 1
    with pytest.raises(Fenced, match="taken over"):
        alive.check()
    heir.check()
    alive.close()
    heir.close()
    slept.clear()
    EpochOwnership(files, tmp_path, lease_s=60.0).close()  # it was given up: nobody is waited for
    assert slept == []


def test_of_many_that_want_a_store_one_owns_it(tmp_path: Path) -> None:
    owners: list[EpochOwnership] = []
    refused: list[StoreOwned] = []

    def want() -> None:
        try:
            owners.append(EpochOwnership(FileSystem(), tmp_path, lease_s=5.0))
        except StoreOwned as error:
            refused.append(error)

    threads = [threading.Thread(target=want) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert (len(owners), len(refused)) == (1, 5)
    finally:
        owners[0].close()


def test_a_lease_must_be_positive(tmp_path: Path) -> None:
    for lease_s in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidInput, match="positive"):
            EpochOwnership(FileSystem(), tmp_path, lease_s=lease_s)


class Unlinked(FileSystem):
    def link(self, source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_system_without_hard_links_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no hard links"):
        Store.open(tmp_path, files=Unlinked(), fencing="create")


def test_a_process_id_that_was_used_again_is_not_the_owner(tmp_path: Path) -> None:
    first = EpochOwnership(FileSystem(), tmp_path, lease_s=60.0)
    first._wake.set()
    path = tmp_path / "owners" / f"{first.epoch:016d}.beat"
    beat = json.loads(path.read_bytes())
    path.write_text(json.dumps({**beat, "started": beat["started"] - 1}))
    second = EpochOwnership(FileSystem(), tmp_path, lease_s=60.0)
    assert second.epoch == first.epoch + 1
    second.close()


@pytest.mark.parametrize("lease", [-5, 1e300, math.inf, math.nan, 10**400, True, "x", None])
def test_a_lease_in_a_beat_that_cannot_be_waited_for_is_the_default(lease: object) -> None:
    assert isogloss.store.ownership.epochs._lease(lease) == isogloss.store.ownership.epochs.LEASE_S


@pytest.mark.parametrize("lease", [0, 0.5, 30])
def test_a_lease_in_a_beat_is_believed(lease: float) -> None:
    assert isogloss.store.ownership.epochs._lease(lease) == lease
