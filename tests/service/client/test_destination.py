"""Where an address leads: to a store that is taken, or to the server that has it."""

import grp
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.service import planted
from tests.service.serving import append_samples, start_kept

import isogloss
from isogloss.errors import InvalidInput, NotPermitted, ServerUnavailable, StoreOwned
from isogloss.service.calls.all import LocalHandlers
from isogloss.service.client import destination
from isogloss.service.client.destination import Destination, find_destination
from isogloss.service.values.addresses import TOKEN_FILE_VARIABLE, TOKEN_NAME, TOKEN_VARIABLE
from isogloss.store import Store, StoreOwner
from isogloss.store.testing import sample_spec

SPEC = sample_spec()


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv(TOKEN_FILE_VARIABLE, raising=False)


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
        kept = "kept" * 4
        (root / TOKEN_NAME).write_text(f"{kept}\n")
        (root / TOKEN_NAME).chmod(0o600)
        assert find_destination(str(root), None).token == kept
        assert find_destination(root, "given").token == "given"
        store.set_server("unix:/run/a")
        assert find_destination(root, None) == Destination(address="unix:/run/a")


MEMBER = """
import sys
import isogloss
from isogloss.errors import NotPermitted

store = sys.argv[1]
with isogloss.connect(store, read_only=True) as client:
    print(client.recording("sample").rows)
try:
    isogloss.connect(store)
except NotPermitted as error:
    print(error)
"""


@pytest.mark.parametrize("listen", [(), ("--listen", "127.0.0.1:0")])
def test_a_member_of_the_group_reads_the_files_of_a_store_that_another_user_serves(
    listen: tuple[str, ...],
) -> None:
    as_nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    python = (*as_nobody, sys.executable, "-c")
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root is also another user")
    if subprocess.run([*python, "import isogloss.service"], check=False).returncode:
        pytest.skip("another user cannot read this installation")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = Path(folder) / "store"
        server = start_kept(store, "--group", grp.getgrgid(65534).gr_name, *listen)
        try:
            with isogloss.connect(store) as client:
                client.create_recording(SPEC, ["a"])
                with client.appender("sample", "p") as appender:
                    append_samples(appender, SPEC, 3)
                rows = client.recording("sample").rows
            done = subprocess.run(
                [*python, MEMBER, str(store)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            read, refused = done.stdout.splitlines()
            assert int(read) == rows > 0
            assert "for its user alone: read its files with connect(..., read_only=True)" in refused
        finally:
            assert server.terminate() == 0
            server.kill()


@pytest.mark.parametrize("what", ["pipe", "directory", "open"])
def test_a_token_of_the_store_that_is_no_private_file_is_refused_and_not_waited_for(
    tmp_path: Path, what: str
) -> None:
    root = tmp_path / "store"
    with Store.open(root) as store:
        store.set_server("127.0.0.1:7447")
        path = root / TOKEN_NAME
        if what == "pipe":
            os.mkfifo(path, 0o600)
        elif what == "directory":
            path.mkdir()
        else:
            path.write_text("0123456789abcdef")
            path.chmod(0o644)
        with pytest.raises((InvalidInput, NotPermitted), match="and give ISOGLOSS_TOKEN"):
            find_destination(root, None)
        assert find_destination(root, "given").token == "given"


def test_the_environment_may_name_a_file_of_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef\n")
    (tmp_path / "secret").chmod(0o600)
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, str(tmp_path / "secret"))
    assert find_destination("box:7447", None).token == "0123456789abcdef"
    assert find_destination("box:7447", "given").token == "given"
    monkeypatch.setenv(TOKEN_VARIABLE, "of the environment")
    assert find_destination("box:7447", None).token == "of the environment"
    monkeypatch.delenv(TOKEN_VARIABLE)
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, str(tmp_path / "lost"))
    with pytest.raises(InvalidInput, match=r"lost holds no token \(No such file.*another file"):
        find_destination("box:7447", None)


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
