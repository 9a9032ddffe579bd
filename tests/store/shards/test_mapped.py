"""Shards mapped side by side form one table."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import StorageError
from isogloss.store import FileSystem, SiteSpec, Store
from isogloss.store.disk.filesystem import OpenFile
from isogloss.store.shards.mapped import MappedRun, can_map, map_rows
from isogloss.store.testing import sample_batch, sample_spec

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


@pytest.mark.parametrize(("width", "is_mapped"), [(16, True), (12, False)])
def test_a_site_is_mapped_where_its_shards_fill_whole_pages(
    tmp_path: Path, width: int, is_mapped: bool
) -> None:
    """128 rows of 64 bytes are two pages; of 24 bytes they end within one."""
    site = SiteSpec(name="s", width=width, dtype="float32" if is_mapped else "bfloat16")
    spec = sample_spec(sites=(site,))
    with Store.open(tmp_path) as store:
        recording = store.create_recording(spec, ["a"], shard_bytes=8 << 10)
        with recording.open_lane() as lane:
            for sequence in range(1, 20):
                lane.append([sample_batch(spec, "p", sequence)])
        reader = recording.reader()
        rows = reader.read("s", 0, reader.rows)
        assert len(rows) > 3 * 128
        found = reader.table("s")
        assert (found is not None) == is_mapped
        if found is not None:
            table, shifts = found
            assert shifts.tolist() == [0]
            assert table[: len(rows)].tobytes() == rows.tobytes()
