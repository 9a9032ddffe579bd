"""Who may read a store's files: its user alone, or a group too."""

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import InvalidInput
from isogloss.store import FileSystem, Store, open_direct_lane, store_owner
from isogloss.store.disk.permissions import (
    SECRET_NAMES,
    directory_mode,
    file_mode,
    group_id,
    is_shared,
    share,
)
from isogloss.store.disk.rooted_files import RootedFiles
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()
GROUP = grp.getgrgid(os.getegid()).gr_name


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda mask: f"umask {mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    was = os.umask(request.param)
    yield request.param
    os.umask(was)


def modes(root: Path) -> dict[str, int]:
    """Return the permissions of a directory and of all below it, by path."""
    found = [root, *root.rglob("*")]
    return {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in found}


def fill(root: Path, group: str | None = None) -> None:
    """Write a store in the ways there are: lanes, a direct lane, joining, compression."""
    with Store.open(root, group=group) as store:
        recording = store.create_recording(SPEC, ["a", "b"], shard_bytes=8 << 10)
        for number in (1, 2, 3):
            with recording.open_lane() as lane:
                lane.append([sample_batch(SPEC, "p", number)])
        recording.compact()
        recording.compress()
        ticket = recording.offer_direct_lane(["q"])
        with open_direct_lane(root, ticket) as direct:
            direct.append([sample_batch(SPEC, "q", 1)])


def test_a_store_is_its_users_alone(tmp_path: Path, umask: int) -> None:
    fill(tmp_path / "store")
    found = modes(tmp_path / "store")
    assert len(found) > 20
    assert {name: mode for name, mode in found.items() if mode & 0o077} == {}


def test_an_empty_directory_that_becomes_a_store_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with Store.open(tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_group_reads_all_but_secrets_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    fill(tmp_path / "store", GROUP)
    for name, mode in modes(tmp_path / "store").items():
        path = tmp_path / "store" / name
        if name in SECRET_NAMES:
            assert mode & 0o077 == 0, name
        else:
            assert mode == (0o2750 if path.is_dir() else 0o640), name
        assert path.stat().st_gid == os.getegid()


def test_a_store_that_was_its_users_alone_is_shared_as_if_it_had_been_from_the_start(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "store")
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o600)
    (tmp_path / "store" / "recordings" / "link").symlink_to(outside)
    (tmp_path / "store" / "token").write_text("secret")
    (tmp_path / "store" / "token").chmod(0o600)
    with Store.open(tmp_path / "store", group=GROUP) as store:
        store.recording("sample").open_lane().close()
    (tmp_path / "store" / "recordings" / "link").unlink()
    found = modes(tmp_path / "store")
    assert found["token"] == found["isogloss.lock"] == 0o600
    others = {mode for name, mode in found.items() if name not in SECRET_NAMES}
    assert others == {0o2750, 0o640}
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600, "no link is followed"


def test_sharing_again_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    share(tmp_path, os.getegid())
    assert modes(tmp_path) == {".": 0o2750, "a": 0o640}
    (tmp_path / "a").chmod(0o600)
    share(tmp_path, os.getegid())
    assert modes(tmp_path)["a"] == 0o600


def test_a_group_that_is_none_of_this_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no group 'no-such-group'"):
        Store.open(tmp_path / "store", group="no-such-group")
    assert group_id(GROUP) == os.getegid()


def test_who_may_not_open_the_lock_still_learns_who_owns_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "store") as store:
        store.set_server("unix:/somewhere")
        real = FileSystem.open

        def refused(files: FileSystem, path: Path, *, write: bool = False) -> int:
            if path.name == "isogloss.lock":
                raise PermissionError(13, "as for another user", str(path))
            return real(files, path, write=write)

        monkeypatch.setattr(FileSystem, "open", refused)
        owner = store_owner(tmp_path / "store")
        assert owner is not None
        assert owner.address == "unix:/somewhere"
    assert store_owner(tmp_path / "store") is None


@pytest.mark.parametrize("kind", [FileSystem, RootedFiles])
@pytest.mark.parametrize(
    ("above", "file", "directory"),
    [
        (0o700, 0o600, 0o700),
        (0o755, 0o644, 0o755),
        (0o2750, 0o640, 0o2750),
        (0o2770, 0o640, 0o2750),
        (0o777, 0o644, 0o755),
        (0o1777, 0o644, 0o755),
    ],
)
def test_what_is_made_has_its_directorys_permissions(
    tmp_path: Path, kind: type[FileSystem], above: int, file: int, directory: int
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(above)
    files = RootedFiles(root) if kind is RootedFiles else FileSystem()
    was = os.umask(0)
    try:
        os.close(files.create(root / "file"))
        files.make_directory(root / "directory")
    finally:
        os.umask(was)
    assert modes(root) == {".": above, "file": file, "directory": directory}
    assert file_mode(root.stat()) == file
    assert directory_mode(root.stat()) == directory
    assert is_shared(root.stat()) == (above in (0o2750, 0o2770))
    files.set_permissions(root / "directory", 0o700)
    assert modes(root)["directory"] == 0o700
