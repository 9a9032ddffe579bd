"""The file of a store's token: kept, private, and durable once it is given out."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from isogloss.errors import InvalidInput, NotPermitted
from isogloss.service.server.token_file import check_token, store_token
from isogloss.store import FileSystem

TOKEN = "0123456789abcdef"


class Watched(FileSystem):
    """Writes down the calls that make a file durable, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Path | None]] = []

    def sync_data(self, descriptor: int) -> None:
        self.calls.append(("sync the bytes", None))
        super().sync_data(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self.calls.append(("rename to", target))
        super().replace(source, target)

    def sync_directory(self, path: Path) -> None:
        self.calls.append(("sync the directory", path))
        super().sync_directory(path)


def test_a_token_is_made_once_and_kept(tmp_path: Path) -> None:
    made = store_token(tmp_path, None)
    assert len(made) >= 32
    assert store_token(tmp_path, None) == made
    assert store_token(tmp_path, TOKEN) == TOKEN
    assert store_token(tmp_path, None) == TOKEN
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_only_its_owner_reads_the_token(tmp_path: Path) -> None:
    store_token(tmp_path, TOKEN)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_the_token_and_its_name_are_on_the_disk_when_it_is_given_out(tmp_path: Path) -> None:
    files = Watched()
    store_token(tmp_path, TOKEN, files)
    assert files.calls == [
        ("sync the bytes", None),
        ("rename to", tmp_path / "token"),
        ("sync the directory", tmp_path),
    ]


@pytest.mark.parametrize(
    "token", ["", TOKEN[:15], "not ascii: ä 0123456789", "line\n0123456789abc"]
)
def test_a_token_that_is_short_or_does_not_print_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(InvalidInput, match="at least 16 that print"):
        store_token(tmp_path, token)
    with pytest.raises(InvalidInput, match="at least 16 that print"):
        check_token(token)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [b"", b"x", b"\xff" * 20, TOKEN[:15].encode()])
def test_a_kept_token_that_is_none_is_refused_and_stays(tmp_path: Path, kept: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(kept)
    path.chmod(0o600)
    with pytest.raises(InvalidInput, match="remove it, and one is made"):
        store_token(tmp_path, None)
    assert path.read_bytes() == kept


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_kept_token_that_others_may_know_is_refused(tmp_path: Path, mode: int) -> None:
    store_token(tmp_path, TOKEN)
    (tmp_path / "token").chmod(mode)
    with pytest.raises(NotPermitted, match=f"mode {mode:o}, wanted 600"):
        store_token(tmp_path, None)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_stands_in_the_place_of_the_file_is_refused_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path, int], None]
) -> None:
    make(tmp_path / "token", 0o600)
    with pytest.raises(InvalidInput, match=r"holds no token \(it is no file\): remove it"):
        store_token(tmp_path, None)


def test_a_link_to_nothing_is_replaced_by_a_token(tmp_path: Path) -> None:
    for target in ("token", "lost/token"):
        path = tmp_path / "token"
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        made = store_token(tmp_path, None)
        assert path.read_text().strip() == made
        assert not path.is_symlink()
