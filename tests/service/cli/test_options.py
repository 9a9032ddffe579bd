"""Options that all commands have: a store is made only by what records."""

from pathlib import Path

import pytest

from isogloss.errors import NotFound
from isogloss.service.cli.options import connect


def test_a_mistyped_path_is_refused_and_makes_no_store(tmp_path: Path) -> None:
    path = tmp_path / "mistyped"
    with pytest.raises(NotFound, match=r"no store at .*mistyped.*isogloss record"):
        connect(str(path))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_no_store_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NotFound):
        connect(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_records_makes_the_store_that_others_then_open(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    connect(path, run_workers=False, may_create=True).close()
    with connect(path, run_workers=False) as client:
        assert client.is_local
        assert client.recordings() == []
        assert repr(client) == f"Client({path!r})"
