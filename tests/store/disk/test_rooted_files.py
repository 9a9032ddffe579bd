"""Files below a root: no link is followed, no other user's file opened."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import (
    NotPermitted,
)
from isogloss.store import Store
from isogloss.store.disk.rooted_files import RootedFiles
from isogloss.store.testing import sample_spec

SPEC = sample_spec()


SHARD_BYTES = 8 << 10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root) as opened:
        opened.create_recording(SPEC, ["a", "b"], shard_bytes=SHARD_BYTES)
        yield opened


def test_files_below_a_root_do_what_files_do(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    files = RootedFiles(root)
    files.make_directory(root / "a")
    descriptor = files.create(root / "a" / "x")
    files.write(descriptor, [b"abc"], 0)
    files.close(descriptor)
    files.replace(root / "a" / "x", root / "a" / "y")
    files.sync_directory(root / "a")
    assert files.names(root / "a") == ["y"]
    assert files.names(root / "b") == []
    assert files.exists(root / "a" / "y")
    assert not files.exists(root / "a" / "x")
    assert files.is_directory(root / "a")
    assert files.free_bytes(root / "a") > 0
    assert files.modified_s(root / "a" / "y") == (root / "a" / "y").stat().st_mtime
    (root / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(root / "pipe")
    for name in ("link", "../outside", "pipe"):
        with pytest.raises(NotPermitted):
            files.close(files.open(root / name))
    with pytest.raises(NotPermitted):
        files.open(tmp_path / "outside")
    with pytest.raises(FileNotFoundError):
        files.open(root / "b" / "x")
    files.remove(root / "a" / "y")
    files.remove_directory(root / "a")
    files.disconnect()
    with pytest.raises(NotPermitted, match="closed"):
        files.names(root / "b")
