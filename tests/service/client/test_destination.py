"""Where an address leads: to a store that is taken, or to the server that has it."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.service import planted

from isogloss.errors import InvalidInput, ServerUnavailable, StoreOwned
from isogloss.service.calls.all import LocalHandlers
from isogloss.service.client import destination
from isogloss.service.client.destination import TOKEN_VARIABLE, Destination, find_destination
from isogloss.service.values.addresses import TOKEN_NAME
from isogloss.store import Store, StoreOwner


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


def test_an_address_of_a_server_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("unix:/run/a", "box:7447", "[::1]:7447"):
        assert find_destination(address, "t") == Destination(address=address, token="t")
        assert find_destination(address, None) == Destination(address=address)
    monkeypatch.setenv(TOKEN_VARIABLE, "of the environment")
    assert find_destination("box:7447", None).token == "of the environment"
    assert find_destination("box:7447", "given").token == "given"


def test_nothing_and_a_port_out_of_range_lead_nowhere() -> None:
    with pytest.raises(InvalidInput, match="address is empty: give a path"):
        find_destination("", None)
    with pytest.raises(InvalidInput, match="neither unix:/PATH nor HOST:PORT"):
        find_destination("box:99999", None)


def test_a_store_that_nobody_owns_is_taken_with_or_without_its_jobs(tmp_path: Path) -> None:
    for run_workers in (True, False):
        found = find_destination(tmp_path / "store", None, run_workers=run_workers)
        assert (found.address, found.token) == (None, None)
        assert isinstance(found.handlers, LocalHandlers)
        assert found.handlers._owner.jobs.runs_workers is run_workers
        found.handlers.close()


def test_a_path_that_reads_like_an_address_is_a_path_where_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for address in (Path("box:1"), f"{tmp_path}/a:1", "box:2"):
        if address == "box:2":
            Path(address).mkdir()
        found = find_destination(address, None, run_workers=False)
        assert found.handlers is not None
        found.handlers.close()
        assert Path(address).is_dir()


def test_the_server_of_a_store_is_called_with_the_token_that_the_store_keeps(
    tmp_path: Path,
) -> None:
    root = tmp_path / "store"
    with Store.open(root) as store:
        with pytest.raises(StoreOwned):
            find_destination(root, None)
        store.set_server("127.0.0.1:7447")
        assert find_destination(root, None) == Destination(address="127.0.0.1:7447")
        (root / TOKEN_NAME).write_text("kept\n")
        assert find_destination(str(root), None).token == "kept"
        assert find_destination(root, "given").token == "given"
        store.set_server("unix:/run/a")
        assert find_destination(root, None) == Destination(address="unix:/run/a")


READER = """
import sys
import isogloss
from isogloss.errors import StorageError

with isogloss.connect(sys.argv[1], read_only=True) as client:
    print(len(client.read("small-docs", "layer.1", 0, 7)))
try:
    isogloss.connect(sys.argv[1])
except StorageError as error:
    print(error)
"""


def test_a_store_on_a_mount_that_takes_no_writes_is_read(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store.open(root) as store:
        planted.record(store, "small-docs", seed=1)
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    rootless = [] if os.geteuid() == 0 else ["--map-root-user"]
    inside = ["unshare", *rootless, "--mount", "sh", "-c", mount, "sh", str(root)]
    if not shutil.which("unshare") or subprocess.run([*inside, "true"], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    command = [*inside, sys.executable, "-c", READER, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, refused = done.stdout.splitlines()
    assert rows == "7"
    assert "read it with connect(..., read_only=True)" in refused


@pytest.mark.parametrize(
    ("host", "address", "is_near"),
    [
        (socket.gethostname(), "127.0.0.1:1", True),
        ("", "127.0.0.1:1", True),
        ("far-away", "127.0.0.1:1", False),
        ("far-away", "10.0.0.1:1", True),
        ("far-away", "unix:/no/such/socket", False),
        ("far-away", "unix:/tmp", True),
    ],
)
def test_an_address_that_means_something_else_here_is_refused(
    host: str, address: str, is_near: bool
) -> None:
    owner = StoreOwner(pid=1, host=host, address=address)
    if is_near:
        destination._check_near(owner, address)
    else:
        with pytest.raises(ServerUnavailable, match=f"served on far-away at {address}"):
            destination._check_near(owner, address)
