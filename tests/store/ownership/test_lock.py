"""A store has one owner, as long as its process lives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isogloss.errors import (
    StoreOwned,
)
from isogloss.store import Store, store_owner


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
