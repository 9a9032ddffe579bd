"""Files below a root: no link is followed, no other user's file opened."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import (
    NotFound,
    NotPermitted,
)
from isogloss.store import Store
from isogloss.store.disk.rooted_files import RootedFiles, read_private_file
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


def test_a_private_file_is_read_only_where_nobody_else_could_have_put_or_read_it(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    path = root / "key"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    assert read_private_file(root, "key", most_bytes=6) == b"secret"
    with pytest.raises(NotPermitted, match="6 bytes, wanted at most 5"):
        read_private_file(root, "key", most_bytes=5)
    for mode in (0o640, 0o604, 0o601):
        path.chmod(mode)
        with pytest.raises(NotPermitted, match=f"mode {mode:04o}, so others can read it"):
            read_private_file(root, "key", most_bytes=6)
    path.chmod(0o600)
    (root / "link").symlink_to(path)
    os.mkfifo(root / "pipe", 0o600)
    (root / "folder").mkdir(0o700)
    for name in ("link", "pipe", "folder", "../root/key"):
        with pytest.raises(NotPermitted):
            read_private_file(root, name, most_bytes=6)
    with pytest.raises(FileNotFoundError):
        read_private_file(root, "none", most_bytes=6)
    with pytest.raises(NotFound):
        read_private_file(root / "none", "key", most_bytes=6)
