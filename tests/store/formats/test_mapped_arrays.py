"""Arrays are mapped where they lie and stay when their files go; damage is noticed when used."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from ml_dtypes import bfloat16
from numpy.typing import NDArray

from isogloss.errors import CorruptData, NotFound, ShapeError
from isogloss.store import map_arrays, read_arrays, write_arrays, write_mappable

ROWS = np.arange(600_000, dtype=np.float32).reshape(-1, 3)  # several chunks of the usual size


@pytest.fixture
def group(tmp_path: Path) -> Path:
    arrays: list[tuple[str, NDArray[np.generic]]] = [
        ("rows", ROWS),
        ("some", np.arange(5).astype(bfloat16)),
        ("none", np.empty(0, np.int32)),
    ]
    write_mappable(tmp_path / "group", arrays, {"note": 3})
    return tmp_path / "group"


def chunk(group: Path, name: str = "rows") -> Path:
    (found,) = (path for path in (group / name).iterdir() if path.name != "zarr.json")
    return found


def test_what_was_written_is_mapped(group: Path) -> None:
    arrays, attributes = map_arrays(group)
    assert attributes == {"note": 3}
    np.testing.assert_array_equal(arrays["rows"].checked(), ROWS)
    assert arrays["some"].checked().dtype == bfloat16
    assert arrays["none"].checked().shape == (0,)
    with pytest.raises(ValueError, match="read-only"):
        arrays["rows"].checked()[0] = 1


def test_other_readers_read_the_same_files(group: Path) -> None:
    np.testing.assert_array_equal(read_arrays(group)[0]["rows"], ROWS)
    opened = zarr.open_group(group, mode="r")["rows"]
    assert isinstance(opened, zarr.Array)
    np.testing.assert_array_equal(np.asarray(opened[:]), ROWS)


def test_a_mapped_array_stays_when_its_files_are_replaced_or_removed(group: Path) -> None:
    first = map_arrays(group)[0]["rows"]
    write_mappable(group, [("rows", ROWS + 1)], {})
    second = map_arrays(group)[0]["rows"]
    shutil.rmtree(group)
    np.testing.assert_array_equal(first.checked(), ROWS)
    np.testing.assert_array_equal(second.checked(), ROWS + 1)
    with pytest.raises(NotFound):
        map_arrays(group)


@pytest.mark.parametrize("place", [0, 1_000_000, -1])
def test_damage_is_noticed_when_the_array_is_used(group: Path, place: int) -> None:
    content = bytearray(chunk(group).read_bytes())
    content[place] ^= 1
    chunk(group).write_bytes(content)
    arrays, _ = map_arrays(group)
    arrays["some"].checked()
    with pytest.raises(CorruptData, match="'rows' does not match its checksum"):
        arrays["rows"].checked()


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_file_that_is_cut_short_is_noticed(group: Path, left: int) -> None:
    content = chunk(group).read_bytes()
    chunk(group).write_bytes(content[:left])
    with pytest.raises(CorruptData, match=f"'rows' is one chunk of {len(content[:left])} bytes"):
        map_arrays(group)[0]["rows"].checked()


def test_a_missing_chunk_and_several_chunks_are_noticed(group: Path, tmp_path: Path) -> None:
    chunk(group).unlink()
    with pytest.raises(CorruptData, match="one chunk of 0 bytes"):
        map_arrays(group)[0]["rows"].checked()
    write_arrays(tmp_path / "cut", {"rows": ROWS}, {})
    with pytest.raises(CorruptData, match="one chunk of 0 bytes"):
        map_arrays(tmp_path / "cut")[0]["rows"].checked()


def test_a_refused_array_leaves_the_group_as_it_was(group: Path) -> None:
    with pytest.raises(ShapeError):
        write_mappable(group, [("rows", np.array(["text"]))], {})
    np.testing.assert_array_equal(map_arrays(group)[0]["rows"].checked(), ROWS)
    assert [path.name for path in group.parent.iterdir()] == ["group"]
