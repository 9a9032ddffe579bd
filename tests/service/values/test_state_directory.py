"""Where the token, the socket and the jobs of a store lie on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from isogloss.errors import StorageError
from isogloss.service.values.state_directory import (
    STATE_VARIABLE,
    location,
    make_state_directory,
    state_directory,
)
from isogloss.store import Store
from isogloss.store.disk.object_files import ObjectFiles

ADDRESS = "s3://bucket/prefix"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("state") / "store") as store:
        yield store


def test_a_store_in_a_directory_keeps_all_of_it_inside(store: Store) -> None:
    assert state_directory(store.root) == state_directory(str(store.root)) == store.root
    assert make_state_directory(store) == store.root
    assert location(store) == str(store.root)


def test_a_store_opened_by_a_relative_path_is_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.open("store") as opened:
        assert location(opened) == str(tmp_path / "store")


@pytest.fixture(scope="module")
def on_objects() -> Iterator[Store]:
    with Store.open("/", files=ObjectFiles(MemoryStore())) as store:
        yield store


def test_the_state_of_an_object_store_lies_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    found = state_directory(ADDRESS)
    assert found.parent == tmp_path / "isogloss"
    assert len(found.name) == 24
    assert state_directory(f"{ADDRESS}/") == found
    assert state_directory(f"{ADDRESS}2") != found
    assert not found.exists()


@pytest.mark.parametrize("given", ["", "relative"])
def test_without_an_absolute_path_of_the_user_it_lies_in_the_home(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(STATE_VARIABLE, given)
    assert state_directory(ADDRESS).parent == tmp_path / ".local" / "state" / "isogloss"


def test_the_state_of_an_object_store_is_made_for_its_user_alone(
    on_objects: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    made = make_state_directory(on_objects)
    assert made.parent == tmp_path / "isogloss"
    assert made.stat().st_mode & 0o777 == 0o700
    (made / "token").touch()
    assert make_state_directory(on_objects) == made
    assert (made / "token").exists()
    assert location(on_objects) == on_objects.address


def test_a_state_directory_that_cannot_be_made_is_named_with_the_remedy(
    on_objects: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(StorageError, match=f"set {STATE_VARIABLE} to a directory of yours") as got:
        make_state_directory(on_objects)
    assert str(tmp_path / "file" / "isogloss") in str(got.value)
