"""Files are written whole and durably, on the operating system's files and on simulated disks."""

import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import CorruptData, StorageError, StorageFull
from isogloss.store import FileSystem, write_file_durably
from isogloss.store.disk.filesystem import (
    OpenFile,
    UncertainRecord,
    for_each,
    make_directories,
    read_files,
    storage_errors,
    write_new,
)
from isogloss.store.testing import FaultyFiles, PowerLoss, SimulatedDisk
from isogloss.store.testing.disk import Ignore, removed


def test_a_file_written_durably_is_whole_private_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_file_durably(path, b"first", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    write_file_durably(path, b"second", mode=0o600)
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["token"]


def written_twice(stop_at: int, ignore: Ignore = None) -> SimulatedDisk:
    """Return a disk on which a file was replaced, until the power went."""
    disk = SimulatedDisk(ignore=ignore)
    path = Path("/file")
    write_file_durably(path, b"old", files=disk)
    disk.sync_directory(path.parent)
    disk.stop_at = disk.operations + stop_at
    with contextlib.suppress(PowerLoss):
        write_file_durably(path, b"new", files=disk)
    return disk


def test_after_a_power_loss_the_file_is_the_old_or_the_new_one() -> None:
    for stop_at in range(1, 9):
        disk = written_twice(stop_at)
        for seed in range(8):
            left = disk.after_power_loss("mixed", seed)
            allowed = {b"old", b"new"} if stop_at < 6 else {b"new"}
            assert left.read_whole(Path("/file")) in allowed


@pytest.mark.parametrize("operation", ["sync_data", "sync_directory"])
def test_syncing_the_file_and_its_directory_are_both_needed(operation: str) -> None:
    disk = written_twice(99, removed(operation, lambda path: path != Path("/file")))
    found = [disk.after_power_loss("mixed", seed) for seed in range(40)]
    assert any(not d.exists(Path("/file")) or d.read_whole(Path("/file")) != b"new" for d in found)


@pytest.mark.parametrize("operation", ["create", "write", "sync_data", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, operation: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    files = FaultyFiles(fail_at=1, error=errno.ENOSPC, operations=frozenset({operation}))
    with pytest.raises(StorageFull, match="no room"):
        write_file_durably(path, b"new", files=files)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_directory_is_synced_after_the_rename(tmp_path: Path) -> None:
    files = FaultyFiles(fail_at=1, operations=frozenset({"sync_directory"}))
    with pytest.raises(StorageError, match="cannot be written"):
        write_file_durably(tmp_path / "file", b"new", files=files)
    assert files.calls["replace"] == files.calls["sync_directory"] == 1
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_record_is_created_once_and_its_own_content_there_is_success(tmp_path: Path) -> None:
    files, path = FileSystem(), tmp_path / "record"
    files.create_record(path, b"mine")
    files.create_record(path, b"mine")
    with pytest.raises(FileExistsError):
        files.create_record(path, b"mine", look=False)
    with pytest.raises(FileExistsError):
        files.create_record(path, b"other")
    assert path.read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["record"]


def test_a_record_whose_directory_cannot_be_synced_is_uncertain(tmp_path: Path) -> None:
    files = FaultyFiles(fail_at=1, operations=frozenset({"sync_directory"}))
    with pytest.raises(UncertainRecord):
        files.create_record(tmp_path / "record", b"mine")


def test_buffers_of_any_number_are_written_and_read_back(tmp_path: Path) -> None:
    files = FileSystem()
    pieces = [bytes([n % 251]) * (n % 7) for n in range(1500)]
    write_new(files, tmp_path / "x", pieces)
    assert files.read_whole(tmp_path / "x") == b"".join(pieces)
    with pytest.raises(FileExistsError):
        write_new(files, tmp_path / "x", [])
    file = OpenFile(files, tmp_path / "x")
    with pytest.raises(CorruptData, match="too early"):
        files.read_into(file.descriptor, np.empty(10, np.uint8), files.size(file.descriptor) - 4)


def test_directories_are_made_with_their_parents_and_removed_with_their_children(
    tmp_path: Path,
) -> None:
    files = FileSystem()
    make_directories(files, tmp_path / "a" / "b" / "c")
    make_directories(files, tmp_path / "a" / "b" / "c")
    for name in ("one", "two"):
        write_new(files, tmp_path / "a" / name, [name.encode()])
    paths = [tmp_path / "a" / name for name in ("one", "two")] * 20
    assert list(read_files(files, paths)) == [b"one", b"two"] * 20
    assert for_each(files, len, ["", "x", "yy"]) == [0, 1, 2]
    files.remove_tree(tmp_path / "a")
    files.remove_tree(tmp_path / "a")
    assert files.names(tmp_path / "a") == files.names(tmp_path) == []


def test_errors_of_the_disk_become_ours_and_a_missing_file_stays_one() -> None:
    with pytest.raises(StorageFull), storage_errors("x"):
        raise OSError(errno.EDQUOT, "quota")
    with pytest.raises(StorageError, match="x: "), storage_errors("x"):
        raise OSError(errno.EIO, "broken")
    with pytest.raises(FileNotFoundError), storage_errors("x"):
        raise FileNotFoundError("gone")


def test_a_lock_is_seen_by_others_and_goes_with_its_descriptor(tmp_path: Path) -> None:
    files = FileSystem()
    first = files.create(tmp_path / "lock")
    second = files.open(tmp_path / "lock", write=True)
    assert files.lock(first)
    assert not files.lock(second)
    assert files.is_locked(second)
    assert not files.is_locked(first)
    files.close(first)
    assert files.lock(second)
    files.close(second)


@pytest.mark.parametrize("how", ["one", "together"])
def test_bytes_of_a_file_that_was_deleted_are_never_called_durable(
    tmp_path: Path, how: str
) -> None:
    files = FileSystem()
    kept, lost = (files.create(tmp_path / name) for name in ("kept", "lost"))
    files.write(lost, [b"x"], 0)

    def sync() -> None:
        if how == "one":
            files.sync_data(lost)
        else:
            files.sync_together([kept, lost])

    sync()
    (tmp_path / "lost").rename(tmp_path / "moved")
    sync()
    (tmp_path / "moved").unlink()
    with pytest.raises(OSError, match="deleted while it was written"):
        sync()
    files.sync_data(kept)
    for descriptor in (kept, lost):
        files.close(descriptor)


def test_a_tree_goes_although_somebody_writes_into_it_meanwhile(tmp_path: Path) -> None:
    class Busy(FileSystem):
        late = 3

        def remove_directory(self, path: Path) -> None:
            if self.late:
                self.late -= 1
                (path / f"late-{self.late}").write_bytes(b"x")
            super().remove_directory(path)

    (tmp_path / "lane" / "c").mkdir(parents=True)
    (tmp_path / "lane" / "c" / "0").write_bytes(b"x")
    Busy().remove_tree(tmp_path / "lane")
    assert list(tmp_path.iterdir()) == []

    class Always(Busy):
        late = 1 << 30

    (tmp_path / "lane").mkdir()
    with pytest.raises(OSError, match="not empty"):
        Always().remove_tree(tmp_path / "lane")
