"""Directories of sockets: one a server, and none left for ever by a server that was killed."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from isogloss.service.server.socket_directory import SocketDirectory

HOLD = (
    "import sys, threading\n"
    "from isogloss.service.server.socket_directory import SocketDirectory\n"
    "held = SocketDirectory()\n"
    "(held.path / 'query').touch()\n"
    "print(held.path, flush=True)\n"
    "threading.Event().wait()\n"
)


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_what_a_killed_server_left_is_removed_and_what_a_living_one_has_is_kept(
    tmp_path: Path,
) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        theirs = Path(holder.stdout.readline().strip())
        mine = SocketDirectory()
        assert mine.path.stat().st_mode & 0o777 == 0o700
        assert theirs.exists()
        mine.remove()
        assert list(tmp_path.iterdir()) == [theirs]
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    after = SocketDirectory()
    assert list(tmp_path.iterdir()) == [after.path]
    after.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_directory_of_a_server_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (tmp_path / "isogloss-query-link").symlink_to(elsewhere)
    (tmp_path / "isogloss-query-file").touch()
    SocketDirectory().remove()
    assert {path.name for path in tmp_path.iterdir()} == {
        "elsewhere",
        "isogloss-query-link",
        "isogloss-query-file",
    }
    assert (elsewhere / "kept").exists()
