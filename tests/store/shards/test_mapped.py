"""Shards mapped side by side form one table."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import StorageError
from isogloss.store import FileSystem
from isogloss.store.disk.filesystem import OpenFile
from isogloss.store.shards.mapped import MappedRun, can_map, map_rows

PAGE = mmap.PAGESIZE
ROW_BYTES = PAGE // 8


def run(path: Path, seed: int, length: int, room: int) -> tuple[MappedRun, bytes]:
    content = np.random.default_rng(seed).bytes(PAGE + length)
    path.write_bytes(content)
    file = OpenFile(FileSystem(), path)
    return MappedRun(file=file, offset=PAGE, length=length, room=room), content[PAGE:]


def test_rows_of_shards_follow_one_another_at_their_room(tmp_path: Path) -> None:
    first, one = run(tmp_path / "a", 0, 2 * PAGE, 2 * PAGE)
    second, two = run(tmp_path / "b", 1, 3 * ROW_BYTES, 2 * PAGE)
    assert can_map([first, second])
    table = map_rows([first, second], ROW_BYTES)
    assert len(table) == 4 * PAGE // ROW_BYTES
    assert table[:16].tobytes() == one
    assert table[16:19].tobytes() == two
    view = table[17]
    del table, first, second  # a view keeps the mapping
    assert view.tobytes() == two[ROW_BYTES : 2 * ROW_BYTES]


def test_rows_off_page_bounds_cannot_be_mapped(tmp_path: Path) -> None:
    good, _ = run(tmp_path / "a", 0, PAGE, PAGE)
    for offset, room in ((1, PAGE), (PAGE, PAGE + 1)):
        assert not can_map([MappedRun(file=good.file, offset=offset, length=8, room=room)])
    assert map_rows([], 8).shape == (0,)


def test_a_refusal_of_the_system_is_told(tmp_path: Path) -> None:
    good, _ = run(tmp_path / "a", 0, PAGE, PAGE)
    with pytest.raises(StorageError, match="cannot be mapped"):
        map_rows([MappedRun(file=good.file, offset=1, length=PAGE, room=PAGE)], 8)
